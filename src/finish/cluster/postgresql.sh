# Dumps the first database of these names from the cluster in ./data, as FreedomBox does, to ./dump.sql.
# $1 the folder with the programs of that version, $2... names. Ends with 3 where the cluster has none of them.
set -u
bin=$1
shift
# Settings that an administrator made by SQL may name programs; being a standby would make it wait for others.
rm -f data/postgresql.auto.conf data/postmaster.pid data/standby.signal data/recovery.signal
chmod 700 data
echo 'local all all peer' > hba
: > ident
cat > config <<END
hba_file = '/mnt/hba'
ident_file = '/mnt/ident'
listen_addresses = ''
unix_socket_directories = '/mnt'
fsync = off
autovacuum = off
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
jit = off
max_connections = 10
max_prepared_transactions = 10
END
if ! "$bin/pg_ctl" start --silent --wait --timeout=3600 --pgdata=/mnt/data --log=log \
    --options='-c config_file=/mnt/config'; then
    grep -E 'FATAL|PANIC|ERROR' log >&2 || tail -n 5 log >&2
    exit 4
fi
found=$("$bin/psql" --no-psqlrc --host=/mnt --dbname=template1 --tuples-only --no-align \
    --command='select datname from pg_database') || exit 4
status=3
for name in "$@"; do
    if printf '%s\n' "$found" | grep -qxF -e "$name"; then
        "$bin/pg_dump" --host=/mnt --create --clean --if-exists --file=dump.sql -- "$name"
        status=$?
        break
    fi
done
"$bin/pg_ctl" stop --silent --wait --mode=fast --pgdata=/mnt/data || exit 4
[ "$status" = 0 ] || [ "$status" = 3 ] || exit 4
exit "$status"
