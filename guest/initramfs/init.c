/* The first process, for the guest that most are: a virtio disk on PCI. A process costs tens of milliseconds under emulation, so what a
 * script would start two dozen for is done here. Anything else is left to the script init.slow, which knows every bus.
 *
 * Loads the drivers named in /fast, finds the root (partition 2, labelled guest-root), grows it to the end of its disk,
 * mounts what /etc/rc wants mounted, and becomes init.
 */
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LABEL "guest-root"
#define REREAD_PARTITIONS 0x125f /* BLKRRPART of linux/fs.h, which does not go with sys/mount.h */

static const char *const disks[] = {"vda", "vdb", "vdc"};

static void slowly(void) {
    execl("/bin/busybox", "sh", "/init.slow", NULL);
    _exit(1);
}

static int read_file(const char *path, char *text, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, size - 1);
    if (file >= 0) close(file);
    if (length < 0) return 0;
    text[length] = 0;
    return 1;
}

static void write_file(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    if (write(file, text, strlen(text)) < 0) {} /* a device may have no driver */
    close(file);
}

/* Enabling a PCI device costs a third of a second (the kernel runs the firmware's whole table of interrupts for it, _PRT):
 * virtio's disks and network cards (classes 1 and 2) now, the others in coldplug. */
static void probe_disks_and_nics(void) {
    struct dirent **devices;
    int count = scandir("/sys/bus/pci/devices", &devices, NULL, alphasort); /* by slot: the server's first card is eth0 */
    for (int i = 0; i < count; i++) {
        const char *name = devices[i]->d_name;
        char path[320], vendor[16], class[16];
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vendor", name);
        if (!read_file(path, vendor, sizeof vendor) || strncmp(vendor, "0x1af4", 6)) continue;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/class", name);
        if (!read_file(path, class, sizeof class) || (strncmp(class, "0x01", 4) && strncmp(class, "0x02", 4))) continue;
        write_file("/sys/bus/pci/drivers_probe", name);
    }
}

static void load_drivers(void) {
    char path[256];
    FILE *list = fopen("/fast", "r");
    if (!list) return;
    write_file("/sys/bus/pci/drivers_autoprobe", "0");
    while (fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = 0;
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        syscall(SYS_finit_module, file, "", 0);
        close(file);
    }
    fclose(list);
    probe_disks_and_nics();
    write_file("/sys/bus/pci/drivers_autoprobe", "1");
}

static int is_root(const char *part) {
    char path[64], label[sizeof LABEL - 1];
    snprintf(path, sizeof path, "/dev/%s", part);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    int found = pread(file, label, sizeof label, 1024 + 120) == sizeof label && !memcmp(label, LABEL, sizeof label);
    close(file);
    return found;
}

static uint64_t number_in(const char *block, const char *name) {
    char path[128], text[32];
    snprintf(path, sizeof path, "/sys/class/block/%s/%s", block, name);
    return read_file(path, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

/* Entry 2 of the MBR's table starts at byte 462; its length in sectors, little endian, is 12 bytes on. */
static void grow(const char *disk, const char *part) {
    char path[64];
    uint64_t want = number_in(disk, "size") - number_in(part, "start");
    if (want > UINT32_MAX) want = UINT32_MAX;
    if (want <= number_in(part, "size") + 2048) return;
    uint8_t length[4] = {want, want >> 8, want >> 16, want >> 24};
    snprintf(path, sizeof path, "/dev/%s", disk);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    if (pwrite(file, length, 4, 474) == 4 && fsync(file) == 0) ioctl(file, REREAD_PARTITIONS);
    close(file);
}

static void free_initramfs(const char *directory, dev_t device) {
    DIR *stream = opendir(directory);
    struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        char path[512];
        struct stat found;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", strcmp(directory, "/") ? directory : "", entry->d_name);
        if (lstat(path, &found) || found.st_dev != device) continue;
        if (S_ISDIR(found.st_mode)) {
            free_initramfs(path, device);
            rmdir(path);
        } else
            unlink(path);
    }
    if (stream) closedir(stream);
}

static void bring_links_up(void) {
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct if_nameindex *links = if_nameindex();
    for (struct if_nameindex *link = links; link && link->if_index; link++) {
        struct ifreq request = {0};
        snprintf(request.ifr_name, sizeof request.ifr_name, "%s", link->if_name);
        if (ioctl(sock, SIOCGIFFLAGS, &request) == 0) {
            request.ifr_flags |= IFF_UP;
            ioctl(sock, SIOCSIFFLAGS, &request);
        }
    }
    if (links) if_freenameindex(links);
    close(sock);
}

int main(void) {
    const char *disk = NULL;
    char part[16], path[64];
    struct stat initramfs;
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    load_drivers();
    for (unsigned i = 0; i < sizeof disks / sizeof *disks && !disk; i++) {
        snprintf(part, sizeof part, "%s2", disks[i]);
        if (is_root(part)) disk = disks[i];
    }
    if (!disk) slowly();
    grow(disk, part);
    snprintf(path, sizeof path, "/dev/%s", part);
    for (int tries = 0; access(path, F_OK) && tries < 50; tries++) usleep(20000);
    if (stat("/", &initramfs) || mount(path, "/root", "ext4", MS_NOATIME, NULL)) slowly();
    bring_links_up();
    mkdir("/dev/pts", 0755);
    mkdir("/dev/shm", 01777);
    mount("devpts", "/dev/pts", "devpts", 0, NULL);
    mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777");
    mount("tmpfs", "/root/run", "tmpfs", 0, "mode=755");
    mkdir("/root/run/guest", 0755);
    mount("/dev", "/root/dev", NULL, MS_MOVE, NULL);
    mount("/sys", "/root/sys", NULL, MS_MOVE, NULL);
    mount("/proc", "/root/proc", NULL, MS_MOVE, NULL);
    free_initramfs("/", initramfs.st_dev);
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) return 1;
    execl("/usr/bin/init", "init", NULL);
    return 1;
}
