#!/bin/bash
# Builds a Debian cloud image of Debian's own packages, none of them changed: debian-image.sh FILE.qcow2 (root; minutes).
# It is what Debian's `generic` image is made of: the cloud kernel, GRUB, systemd, cloud-init, netplan, an ssh server.
# Needs: mmdebstrap, grub-pc-bin, grub-common, fdisk (sfdisk), e2fsprogs, qemu-utils.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
FILE=$(realpath "$1")
ROOT_MIB=1400 LABEL=cloud-root
PACKAGES=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,libpam-systemd,dbus,udev,cloud-init,cloud-guest-utils
PACKAGES+=,netplan.io,systemd-resolved,isc-dhcp-client,openssh-server,sudo,iproute2,iputils-ping,e2fsprogs,acpid,login
WORK=$(mktemp -d "$FILE.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
mmdebstrap --mode=root --variant=minbase --components=main --include="$PACKAGES" \
    --aptopt='Apt::Install-Recommends "false"' --customize-hook='rm -f "$1"/etc/hostname "$1"/etc/resolv.conf' \
    --customize-hook='ln -sf ../run/systemd/resolve/stub-resolv.conf "$1"/etc/resolv.conf' \
    --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*; : >"$1"/etc/machine-id; chroot "$1" systemctl enable systemd-networkd' \
    "$suite" "$WORK/root" >&2
echo "LABEL=$LABEL / ext4 defaults 0 1" >"$WORK/root/etc/fstab"
echo LANG=C.UTF-8 >"$WORK/root/etc/default/locale" # as in Debian's image; without it cloud-init wants en_US, which is not made

kernel=$(basename "$WORK"/root/boot/vmlinuz-*)
mkdir -p "$WORK/root/boot/grub"
cat >"$WORK/root/boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_output serial console
linux /boot/$kernel root=LABEL=$LABEL ro console=tty0 console=ttyS0,115200
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
CFG

# An MBR; GRUB between it and the first partition; one ext4 that cloud-init grows.
raw=$WORK/image.raw
truncate -s $((1 + ROOT_MIB))M "$raw"
printf 'label: dos\nstart=2048,size=%d,type=83,bootable\n' $((ROOT_MIB * 2048)) | sfdisk -q "$raw"
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$WORK/core.img" biosdisk part_msdos ext2 normal linux serial terminal
dd if=/usr/lib/grub/i386-pc/boot.img of="$raw" bs=440 count=1 conv=notrunc status=none
dd if="$WORK/core.img" of="$raw" bs=512 seek=1 conv=notrunc status=none
mkfs.ext4 -q -F -L $LABEL -d "$WORK/root" "$WORK/root.ext4" ${ROOT_MIB}M
dd if="$WORK/root.ext4" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none
qemu-img convert -q -f raw -O qcow2 -c "$raw" "$WORK/image.qcow2"
mv "$WORK/image.qcow2" "$FILE"
