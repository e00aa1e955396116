#!/bin/bash
# Builds a small bootable guest out of Debian packages, without root and without mounting anything:
#   guest/build.sh build   build/guest.qcow2 (BIOS boot), build/vmlinuz, build/initrd.img and build/cmdline (the cloud
#                          kernel and its line, to boot the same disk directly)
#   guest/build.sh clean   removes them, and the downloaded packages
# Does nothing when guest/ is as it was at the last build. Needs: apt-get, dpkg-deb, mtools, syslinux,
# syslinux-common, e2fsprogs, fakeroot, cpio, fdisk (sfdisk), qemu-utils, kmod, openssl, gcc, libc6-dev, binutils.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=$(dirname "$HERE")/build
DEBS=$OUT/guest-debs           # kept: a rebuild downloads nothing
STAMP=$OUT/guest.stamp
USER_NAME=cirros USER_PASSWORD=gocubsgo
BOOT_MIB=36 ROOT_MIB=64        # the root grows to its disk's size at boot
LABEL=guest-root               # initramfs/init looks for it
# What each of these wins under emulation: docs/adr/0012-where-a-guests-seconds-go.md.
CMDLINE="console=tty1 console=ttyS0 no_timer_check mitigations=off cryptomgr.notests"
CMDLINE+=" nokaslr loglevel=6 init_on_alloc=0 lsm= audit=0 initcall_blacklist=crypto_kdf108_init,init_kprobe_trace"
SYSLINUX_DIR=/usr/lib/syslinux
WORK=

fail() { echo "guest/build.sh: $*" >&2; exit 1; }

need_tools() {
    local missing=
    while read -r tool package; do
        command -v "$tool" >/dev/null || missing+=" $package"
    done <<<"apt-get apt
dpkg-deb dpkg
mformat mtools
syslinux syslinux
mkfs.ext4 e2fsprogs
fakeroot fakeroot
cpio cpio
sfdisk fdisk
qemu-img qemu-utils
depmod kmod
openssl openssl
gcc gcc
objcopy binutils"
    [ -r $SYSLINUX_DIR/modules/bios/lua.c32 ] || missing+=" syslinux-common"
    [ -z "$missing" ] || fail "missing Debian packages; run: apt-get install$missing"
}

stamp() { # of all that decides the result
    (cd "$HERE" && find . -type f -print0 | sort -z | xargs -0 sha256sum; echo "$OUT") | sha256sum
}

up_to_date() {
    [ -s "$OUT/guest.qcow2" ] && [ -s "$OUT/vmlinuz" ] && [ -s "$OUT/initrd.img" ] && [ -s "$OUT/cmdline" ] &&
        [ "$(cat "$STAMP" 2>/dev/null)" = "$(stamp)" ]
}

package_list() {
    local name
    sed 's/#.*//' "$HERE/packages" | while read -r name; do
        case $name in
        '') ;;
        linux-image-amd64 | linux-image-cloud-amd64) # meta packages
            { apt-cache depends "$name" 2>/dev/null || true; } | awk '/Depends: linux-image-/ && !n++ {print $2}' ;;
        *) echo "$name" ;;
        esac
    done
}

download() {
    local list
    list=$(package_list)
    # The list is kept with its packages: another list means another download.
    [ "$(cat "$DEBS/list" 2>/dev/null)" = "$list" ] && return
    if ! fetch "$list"; then
        # no package lists yet, or older than the archive
        [ "$(id -u)" = 0 ] || fail "could not download the guest's packages; as root, run: apt-get update"
        apt-get update -qq
        list=$(package_list)
        fetch "$list" || fail "could not download the guest's packages; apt-get's message is above"
    fi
    echo "$list" >"$DEBS/list"
}

fetch() { # LIST: download just these
    grep -q '^linux-image-' <<<"$1" || return 1
    rm -rf "$DEBS"
    mkdir -p "$DEBS"
    # shellcheck disable=SC2086 # one word a package
    (cd "$DEBS" && apt-get download -qq -o APT::Sandbox::User=root $1)
}

unpack() {
    local deb
    mkdir -p "$WORK/pool"
    # /bin, /lib, /sbin as on every Debian since 12: links into /usr
    for dir in bin sbin lib lib64; do mkdir -p "$WORK/pool/usr/$dir"; ln -s "usr/$dir" "$WORK/pool/$dir"; done
    for deb in "$DEBS"/*.deb; do
        case $deb in
        */busybox-static_*) dpkg-deb -x "$deb" "$WORK/static" ;; # same paths as busybox
        *) dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$WORK/pool" --keep-directory-symlink ;;
        esac
    done
    CLOUD=$(basename "$WORK"/pool/usr/lib/modules/*-cloud-amd64)
    FULL=$(cd "$WORK/pool/usr/lib/modules" && ls | grep -v -- -cloud-)
    depmod -b "$WORK/pool" "$CLOUD"
    depmod -b "$WORK/pool" "$FULL"
}

add_binary() { # PATH-IN-POOL [NAME]: into usr/bin of the root, with the libraries it is linked to
    local file=$WORK/pool/$1
    [ -e "$file" ] || fail "no $1 in the packages listed in guest/packages"
    install -m "$(stat -L -c %a "$file")" "$file" "$ROOT/usr/bin/${2:-$(basename "$1")}"
    add_libraries "$file"
}

add_libraries() { # FILE...
    local dirs lib
    dirs=$WORK/pool/usr/lib/x86_64-linux-gnu:$WORK/pool/usr/libexec/sudo
    "$WORK/pool/lib64/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$dirs" --list "$1" 2>&1 |
        awk '$2 == "=>" && $1 !~ "/" {print $1, $3}' | while read -r name lib; do
        case $lib in
        "$WORK"/pool/*) cp -nL "$lib" "$ROOT/usr/lib/$name" ;;
        *) fail "$(basename "$1") needs $name: add its package to guest/packages" ;;
        esac
    done
}

add_modules() { # TREE KERNEL LIST-FILE...: the drivers listed and what they depend on, with an index
    local tree=$1 kernel=$2 dir=$1/usr/lib/modules/$2 name
    shift 2
    mkdir -p "$dir"
    sed 's/#.*//' "$@" | while read -r name; do
        [ -z "$name" ] || modprobe -C /dev/null -d "$WORK/pool" -S "$kernel" --show-depends "$name" 2>/dev/null ||
            echo "$name" >>"$WORK/not-in-$kernel"
    done | awk '$1 == "insmod" {print $2}' | sort -u | xargs cp -t "$dir"
    # Without their signatures: the kernel would check each (SHA-256, RSA) and not insist on it.
    find "$dir" -name '*.ko' -exec objcopy --strip-debug {} \;
    cp "$WORK/pool/usr/lib/modules/$kernel"/modules.{builtin,builtin.modinfo,order} "$dir/"
    depmod -b "$tree" "$kernel"
    # busybox reads no others
    find "$dir" -name 'modules.*' ! -name modules.dep ! -name modules.alias ! -name modules.symbols -delete
}

link_applets() { # LINK-TARGET BUSYBOX: in usr/bin of the root
    local applet
    for applet in $("$2" --list); do
        case $applet in busybox | rpm* | dpkg* | run-init) ;; *) ln -sf "$1" "$ROOT/usr/bin/$applet" ;; esac
    done
}

make_root() {
    local applet
    ROOT=$WORK/root
    mkdir -p "$ROOT"/usr/{bin,lib,lib64,libexec,share} "$ROOT"/{dev,proc,sys,run,tmp,mnt,root,home/$USER_NAME} \
        "$ROOT"/etc/dropbear "$ROOT"/var/{lib/guest,lib/sudo,log}
    for applet in bin sbin lib lib64; do ln -s "usr/$applet" "$ROOT/$applet"; done
    ln -s bin "$ROOT/usr/sbin"
    ln -s /run "$ROOT/var/run"
    ln -s /tmp "$ROOT/var/tmp"
    mkdir "$ROOT/usr/lib/guest"
    cp "$WORK/static/bin/busybox" "$ROOT/usr/lib/guest/" # static: nothing to link
    ln -s busybox "$ROOT/usr/lib/guest/sh"
    add_binary bin/busybox
    link_applets ../lib/guest/busybox "$WORK/static/bin/busybox"
    link_applets busybox "$WORK/pool/bin/busybox"
    ln -sf ../lib/guest/busybox "$ROOT/usr/bin/init"
    rm "$ROOT"/usr/bin/{blkid,ping,ping6,mke2fs} # the real ones
    cp -r --remove-destination "$HERE/rootfs/." "$ROOT"
    add_binary bin/ping
    ln -s ping "$ROOT/usr/bin/ping6"
    add_binary usr/sbin/dropbear
    add_binary usr/bin/dropbearkey
    add_binary usr/bin/dbclient
    add_binary bin/lsblk
    add_binary sbin/blkid
    add_binary sbin/resize2fs
    add_binary sbin/mkfs.ext4
    add_binary sbin/mkfs # `mkfs -t TYPE`; busybox has mkfs.vfat
    add_binary usr/bin/curl
    add_binary usr/bin/sudo
    add_binary usr/sbin/qemu-ga
    for applet in mke2fs mkfs.ext2 mkfs.ext3; do ln -s mkfs.ext4 "$ROOT/usr/bin/$applet"; done
    mkdir -p "$ROOT/usr/libexec/sudo" "$ROOT/usr/lib/security"
    cp "$WORK"/pool/usr/libexec/sudo/{sudoers.so,libsudo_util.so.0} "$ROOT/usr/libexec/sudo/"
    add_libraries "$WORK/pool/usr/libexec/sudo/sudoers.so"
    find "$WORK/pool/usr/lib" -path '*/security/pam_permit.so' -exec cp {} "$ROOT/usr/lib/security/" \;
    cp "$WORK/pool/etc/mke2fs.conf" "$ROOT/etc/"
    cp -L "$WORK/pool/lib64/ld-linux-x86-64.so.2" "$ROOT/usr/lib64/"
    add_modules "$ROOT" "$CLOUD" "$HERE/modules.initramfs" "$HERE/modules.root"
    add_modules "$ROOT" "$FULL" "$HERE/modules.initramfs" "$HERE/modules.root"
    # The cloud kernel may lack a driver, that is why there are two.
    [ ! -s "$WORK/not-in-$FULL" ] || fail "no such driver: $(tr '\n' ' ' <"$WORK/not-in-$FULL")"
    printf 'root:*:19000:0:99999:7:::\n%s:%s:19000:0:99999:7:::\n' "$USER_NAME" \
        "$(openssl passwd -6 -salt guest "$USER_PASSWORD")" >"$ROOT/etc/shadow"
}

make_initramfs() { # KERNEL FILE
    local tree=$WORK/initramfs-$1
    mkdir -p "$tree"/{dev,proc,sys,root,bin,sbin,usr/lib}
    cp "$WORK/static/bin/busybox" "$tree/bin/"
    ln -s busybox "$tree/bin/sh"
    ln -s ../bin/busybox "$tree/sbin/modprobe" # the kernel calls it by this name
    ln -s usr/lib "$tree/lib"
    install -m 755 "$HERE/initramfs/init.slow" "$tree/init.slow"
    [ -x "$WORK/init" ] || gcc -static -Os -Wall -s -o "$WORK/init" "$HERE/initramfs/init.c"
    install -m 755 "$WORK/init" "$tree/init"
    add_modules "$tree" "$1" "$HERE/modules.initramfs"
    # What init loads, in this order. The network's driver, too: its link comes up while the rest goes on.
    for name in virtio_pci virtio_blk crc32c_generic ext4 virtio_net; do
        modprobe -C /dev/null -d "$WORK/pool" -S "$1" --show-depends "$name" 2>/dev/null || true
    done | awk -v dir="/lib/modules/$1" '$1 == "insmod" && !seen[$2]++ {n = split($2, part, "/"); print dir "/" part[n]}' >"$tree/fast"
    fakeroot bash -euc '
        chown -R 0:0 "$1"
        mknod -m 600 "$1/dev/console" c 5 1
        cd "$1"
        find . | sort | cpio --quiet -o -H newc
    ' pack "$tree" | gzip -9n >"$2"
}

pack_root() { # under fakeroot: everything is root's but for the user's home
    fakeroot bash -euc '
        root=$1 file=$2 mib=$3 label=$4
        chown -R 0:0 "$root"
        find "$root/etc" -type f -exec chmod 644 {} +
        chmod 755 "$root"/etc/rc "$root"/etc/acpi/PWRF/* "$root"/etc/qemu/fsfreeze-hook "$root"/usr/lib/guest/*
        chmod 440 "$root/etc/sudoers"; chmod 600 "$root/etc/shadow"
        chmod 4755 "$root/usr/bin/sudo"
        chmod 1777 "$root/tmp" # on the disk: what is written there is in a copy of the disk, too
        chmod 700 "$root/etc/dropbear" "$root/root" "$root/var/lib/guest" "$root/var/lib/sudo"
        mkdir -m 700 "$root/home/cirros/.ssh" "$root/root/.ssh"
        (umask 077; : >"$root/home/cirros/.ssh/authorized_keys")
        chown -R 1000:1000 "$root/home/cirros"
        mknod -m 600 "$root/dev/console" c 5 1
        # 4 KiB blocks and a resize reserve for 512 GiB: made small, meant to grow
        mkfs.ext4 -q -F -L "$label" -b 4096 -I 256 -N 4096 -m 1 -J size=4 \
            -O none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,64bit \
            -E lazy_itable_init=1,lazy_journal_init=1,resize=134217728 -d "$root" "$file" "${mib}M" >/dev/null
    ' pack "$ROOT" "$WORK/root.ext4" "$ROOT_MIB" "$LABEL"
}

make_disk() { # an MBR with: FAT16 for syslinux, kernels and initramfs; ext4
    local raw=$WORK/guest.raw fat=$WORK/boot.fat boot=$WORK/boot
    mkdir -p "$boot/full"
    cp "$WORK"/{vmlinuz,initrd.img} "$HERE/choose.lua" "$SYSLINUX_DIR"/modules/bios/{lua,liblua,libcom32,pci,syslinux}.c32 "$boot/"
    cp "$WORK/pool/boot/vmlinuz-$FULL" "$boot/full/vmlinuz"
    cp "$WORK/initrd-full.img" "$boot/full/initrd.img"
    sed "s/@CMDLINE@/$CMDLINE/" "$HERE/syslinux.cfg" >"$boot/syslinux.cfg"
    truncate -s $((1 + BOOT_MIB + ROOT_MIB))M "$raw"
    printf 'label: dos\nstart=2048,size=%d,type=e,bootable\nstart=%d,size=%d,type=83\n' \
        $((BOOT_MIB * 2048)) $((2048 + BOOT_MIB * 2048)) $((ROOT_MIB * 2048)) | sfdisk -q "$raw"
    dd if=$SYSLINUX_DIR/mbr/mbr.bin of="$raw" bs=440 count=1 conv=notrunc status=none
    truncate -s ${BOOT_MIB}M "$fat"
    mformat -i "$fat" -T $((BOOT_MIB * 2048)) -h 64 -s 32 -H 2048 -v BOOT ::
    mcopy -s -i "$fat" "$boot"/* ::
    syslinux --install "$fat"
    dd if="$fat" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$WORK/root.ext4" of="$raw" bs=1M seek=$((1 + BOOT_MIB)) conv=notrunc,sparse status=none
    qemu-img convert -q -f raw -O qcow2 -c "$raw" "$WORK/guest.qcow2"
}

build() {
    up_to_date && return
    need_tools
    mkdir -p "$OUT"
    exec 9>"$OUT/guest.lock"
    flock 9
    up_to_date && return
    local stamp
    stamp=$(stamp) # now: what is edited meanwhile is not in what we build
    echo "building the guest image (once; packages from Debian)" >&2
    rm -rf "$OUT"/guest-work.* # of a build that was killed
    WORK=$(mktemp -d "$OUT/guest-work.XXXXXX")
    trap 'rm -rf "$WORK"' EXIT
    download
    unpack
    make_root
    make_initramfs "$CLOUD" "$WORK/initrd.img"
    make_initramfs "$FULL" "$WORK/initrd-full.img"
    cp "$WORK/pool/boot/vmlinuz-$CLOUD" "$WORK/vmlinuz"
    echo "$CMDLINE" >"$WORK/cmdline"
    pack_root
    make_disk
    chmod 644 "$WORK"/{vmlinuz,initrd.img,cmdline,guest.qcow2}
    # Each file appears whole; a cloud that has the old image open keeps it.
    mv "$WORK"/{vmlinuz,initrd.img,cmdline,guest.qcow2} "$OUT/"
    echo "$stamp" >"$STAMP"
    ls -l "$OUT"/{guest.qcow2,vmlinuz,initrd.img} >&2
}

case ${1:-} in
build) build ;;
clean) rm -rf "$OUT"/{guest.qcow2,vmlinuz,initrd.img,cmdline,guest.stamp,guest.lock,guest-debs,guest-work.*} ;;
*) fail "usage: guest/build.sh build|clean" ;;
esac
