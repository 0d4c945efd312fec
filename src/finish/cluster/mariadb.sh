# Dumps the first database of these names from the files in ./data, as FreedomBox does, to ./dump.sql.
# $1... names. Ends with 3 where there is none of them.
set -u
mariadbd --no-defaults --datadir=/mnt/data --socket=/mnt/socket --pid-file=/mnt/pid --tmpdir=/mnt --skip-networking \
    --skip-grant-tables --skip-log-bin --skip-slave-start --event-scheduler=DISABLED --innodb-buffer-pool-size=16M \
    --key-buffer-size=8M --aria-pagecache-buffer-size=8M --innodb-flush-log-at-trx-commit=0 > log 2>&1 &
server=$!
ask() {
    program=$1
    shift
    "$program" --no-defaults --socket=/mnt/socket "$@"
}
until ask mariadb-admin --silent ping > /dev/null 2>&1; do
    if ! kill -0 "$server" 2> /dev/null; then
        grep -F '[ERROR]' log >&2 || tail -n 5 log >&2
        exit 4
    fi
    sleep 0.2
done
found=$(ask mariadb --batch --skip-column-names --execute='show databases') || exit 4
status=3
for name in "$@"; do
    if printf '%s\n' "$found" | grep -qxF -e "$name"; then
        ask mariadb-dump --add-drop-database --result-file=dump.sql --databases "$name"
        status=$?
        break
    fi
done
ask mariadb-admin shutdown
wait "$server" || exit 4
[ "$status" = 0 ] || [ "$status" = 3 ] || exit 4
exit "$status"
