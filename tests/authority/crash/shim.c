/* Put before libc (LD_PRELOAD): records what a process writes, truncates, renames, unlinks and syncs below one folder,
 * in order, so that a disk that lost what was not synced can be made from the record; and fills the disk.
 *
 * SHIM_ROOT the folder; SHIM_LOG the record; SHIM_BUDGET bytes until every write says ENOSPC (absent: never);
 * SHIM_FULL a file: while it exists, every write says ENOSPC, in whichever process.
 * A record is: op, path length (u16), offset (u64), data length (u32), path, data. Little endian.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 4096
static char *names[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *full;
static int record = -1;
static long long budget = -1;

/* Again in a process that was forked from one that had other settings. */
__attribute__((constructor)) void shim_begin(void) {
    /* Copies: PostgreSQL writes its title over the environment it was started with. */
    root = getenv("SHIM_ROOT") ? strdup(getenv("SHIM_ROOT")) : NULL;
    full = getenv("SHIM_FULL") ? strdup(getenv("SHIM_FULL")) : NULL;
    const char *path = getenv("SHIM_LOG"), *limit = getenv("SHIM_BUDGET");
    if (path) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        record = (int)syscall(SYS_dup3, fd, 3900, O_CLOEXEC);
        syscall(SYS_close, fd);
    }
    budget = limit ? atoll(limit) : -1;
}

static int watched(const char *path) {
    size_t n = path ? strlen(path) : 0;
    if (!root || strncmp(path ? path : "", root, strlen(root)) != 0) return 0;
    return !(n > 4 && strcmp(path + n - 4, "-shm") == 0); /* shared memory is no disk */
}

static void note(char op, const char *path, uint64_t offset, const void *data, uint32_t length) {
    if (record < 0) return;
    uint16_t n = (uint16_t)strlen(path);
    char head[15];
    head[0] = op; memcpy(head + 1, &n, 2); memcpy(head + 3, &offset, 8); memcpy(head + 11, &length, 4);
    struct iovec parts[3] = {{head, 15}, {(void *)path, n}, {(void *)data, length}};
    syscall(SYS_writev, record, parts, length ? 3 : 2);
}

static const char *name_of(int fd) { return fd >= 0 && fd < FDS ? names[fd] : NULL; }

static void opened(int fd, const char *path, int flags, int existed) {
    if (fd < 0 || fd >= FDS || !watched(path)) return;
    free(names[fd]);
    names[fd] = strdup(path);
    if ((flags & O_CREAT) && !existed) note('C', path, 0, NULL, 0);
    if (flags & O_TRUNC) note('T', path, 0, NULL, 0);
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    pthread_mutex_lock(&lock);
    if (root && path[0] != '/' && at == AT_FDCWD && getcwd(whole, sizeof whole / 2)) {
        /* PostgreSQL works in its data folder. */
        size_t used = strlen(whole);
        if (used + strlen(path) + 2 < sizeof whole) { whole[used] = '/'; strcpy(whole + used + 1, path); path = whole; }
    }
    struct stat found;
    int existed = watched(path) && stat(path, &found) == 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    int kept = errno;
    opened(fd, path, flags, existed);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return fd;
}

#define MODE(flags) mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS) { free(names[fd]); names[fd] = NULL; }
    pthread_mutex_unlock(&lock);
    return record >= 0 && fd == record ? 0 : (int)syscall(SYS_close, fd);
}

/* How much of `length` there is room for; -1 with ENOSPC when the disk is full. */
static ssize_t room(size_t length) {
    if (full && access(full, F_OK) == 0) { errno = ENOSPC; return -1; }
    if (budget < 0) return (ssize_t)length;
    if (budget == 0) { errno = ENOSPC; return -1; }
    ssize_t fits = (long long)length < budget ? (ssize_t)length : (ssize_t)budget;
    budget -= fits;
    return fits;
}

static ssize_t put(int fd, const void *data, size_t length, int64_t offset, int here) {
    pthread_mutex_lock(&lock);
    const char *name = name_of(fd);
    ssize_t done;
    if (!name) {
        pthread_mutex_unlock(&lock);
        return here ? syscall(SYS_write, fd, data, length) : syscall(SYS_pwrite64, fd, data, length, offset);
    }
    ssize_t fits = room(length);
    if (fits < 0) {
        int kept = errno;
        pthread_mutex_unlock(&lock);
        errno = kept;
        return -1;
    }
    if (here) {
        int append = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
        offset = lseek(fd, 0, append ? SEEK_END : SEEK_CUR);
        done = syscall(SYS_write, fd, data, fits);
    } else {
        done = syscall(SYS_pwrite64, fd, data, fits, offset);
    }
    int kept = errno;
    if (done > 0) note('W', name, (uint64_t)offset, data, (uint32_t)done);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}

ssize_t write(int fd, const void *data, size_t length) { return put(fd, data, length, 0, 1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return put(fd, data, length, offset, 0); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return put(fd, data, length, offset, 0); }

static int cut(int fd, int64_t length) {
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, fd, length), kept = errno;
    if (done == 0 && name_of(fd)) note('T', name_of(fd), (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off64_t length) { return cut(fd, length); }

static int sync_fd(int fd, long call) {
    pthread_mutex_lock(&lock);
    int done = (int)syscall(call, fd), kept = errno;
    if (done == 0 && name_of(fd)) note('S', name_of(fd), 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
int fsync(int fd) { return sync_fd(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_fd(fd, SYS_fdatasync); }

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_rename, from, to), kept = errno;
    if (done == 0 && watched(to)) note('R', from, 0, to, (uint32_t)strlen(to));
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlink, path), kept = errno;
    if (done == 0 && watched(path)) note('U', path, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
