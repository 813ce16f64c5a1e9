#!/bin/sh
# `getting-started.sh FIRECRACKER KERNEL ROOT [INITRD]`: a guest with a network, started with curl as Firecracker's
# users do it by hand; then its ping, Ctrl-Alt-Del and the exit status. Run it in a folder of its own, as root.
set -eu

firecracker=$1 kernel=$2 root=$3 initrd=${4-}
socket=$PWD/firecracker.socket
args="console=ttyS0 reboot=k panic=1 quiet ravelin.ip=172.16.0.2/30,172.16.0.1"

# put PATH BODY: sends a description, and shows the answer of one that is refused.
put() {
    curl --silent --show-error --fail-with-body --unix-socket "$socket" -X PUT "http://localhost$1" \
        -H 'Content-Type: application/json' -d "$2"
}

ip tuntap add tap0 mode tap
ip address add 172.16.0.1/30 dev tap0
ip link set tap0 up

"$firecracker" --api-sock "$socket" </dev/null >console &
monitor=$!
trap 'cat console; kill $monitor 2>/dev/null || true' EXIT
until [ -S "$socket" ]; do kill -0 $monitor; done

put /boot-source "{\"kernel_image_path\": \"$kernel\",${initrd:+\"initrd_path\": \"$initrd\",} \"boot_args\": \"$args\"}"
put /drives/rootfs "{\"drive_id\": \"rootfs\", \"path_on_host\": \"$root\", \"is_root_device\": true, \"is_read_only\": false}"
put /network-interfaces/net1 '{"iface_id": "net1", "guest_mac": "06:00:AC:10:00:02", "host_dev_name": "tap0"}'
put /machine-config '{"vcpu_count": 2, "mem_size_mib": 512}'
put /actions '{"action_type": "InstanceStart"}'

until ping -c 1 -W 1 172.16.0.2 >/dev/null; do kill -0 $monitor; done
echo "the guest answers"

put /actions '{"action_type": "SendCtrlAltDel"}'
status=0
wait $monitor || status=$?
echo "firecracker ended with $status"
exit $status
