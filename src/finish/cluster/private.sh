# Prepares a copy of a cluster for a server of its own: no network, no other processes, no rights but those of its user.
# Runs as root in namespaces that end with it.
# $1 the cluster, $2 a folder for the copy, $3 the server's user, $4 the script of the server, $5... its arguments
set -eu
cp --archive --reflink=auto -- "$1" "$2/data"
chown --recursive --no-dereference "$3:$3" "$2"
# The server reaches the copy by this name alone, also where the way to it is closed to everybody but root.
mount --bind -- "$2" /mnt
cd /mnt
user=$3 script=$4
shift 4
exec setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs --inh-caps=-all \
    env HOME=/mnt sh -c "$script" sh "$@"
