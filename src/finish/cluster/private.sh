# Prepares a copy of a cluster for a server of its own: no network, no other processes, no rights but those of its user.
# Runs as root in namespaces that end with it.
# $1 the cluster, $2 a folder for the copy, $3 the server's user, $4 the root directory with its programs (empty: the
# box's own), $5 the script of the server, $6... its arguments
set -eu
cp --archive --reflink=auto -- "$1" "$2/data"
chown --recursive --no-dereference "$3:$3" "$2"
work=$2 user=$3 root=$4 script=$5
shift 5
if [ -z "$root" ]; then
    # The server reaches the copy by this name alone, also where the way to it is closed to everybody but root.
    mount --bind -- "$work" /mnt
    cd /mnt
    exec setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs --inh-caps=-all \
        env HOME=/mnt sh -c "$script" sh "$@"
fi
uid=$(id --user "$user") gid=$(id --group "$user")
# A root directory with those programs, the copy at the same name, and nothing else that could be written to.
mount -t tmpfs -o mode=755,size=1m lifeboat /mnt
for folder in "$root"/*; do
    mkdir "/mnt/${folder##*/}"
    mount --bind -- "$folder" "/mnt/${folder##*/}"
    mount -o remount,bind,ro,nosuid,nodev "/mnt/${folder##*/}"
done
mkdir /mnt/mnt /mnt/dev /mnt/etc
mount --bind -- "$work" /mnt/mnt
for device in null zero random urandom; do
    : > "/mnt/dev/$device"
    mount --bind "/dev/$device" "/mnt/dev/$device"
done
printf 'root:x:0:0::/:/bin/sh\n%s:x:%s:%s::/mnt:/bin/sh\n' "$user" "$uid" "$gid" > /mnt/etc/passwd
printf 'root:x:0:\n%s:x:%s:\n' "$user" "$gid" > /mnt/etc/group
mount -o remount,ro /mnt
cd /mnt
exec setpriv --no-new-privs --inh-caps=-all chroot --userspec="$uid:$gid" --groups="$gid" /mnt \
    /bin/sh -c 'export HOME=/mnt PATH=/bin && cd /mnt && eval "$0"' "$script" "$@"
