/* Memory that runs out on demand: preloaded, it makes one allocation of the calling thread fail, the nth of at least
   some size. What libgomp asks for is left alone: it ends the process where it gets none. Needs glibc. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static __thread long seen, nth;
static __thread size_t least;
static long live;
static char *exempt_from, *exempt_to;

static int find_libgomp(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size, (void)data;
    if (!strstr(info->dlpi_name, "libgomp"))
        return 0;
    exempt_from = (char *)info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        char *end = exempt_from + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        exempt_to = info->dlpi_phdr[i].p_type == PT_LOAD && end > exempt_to ? end : exempt_to;
    }
    return 1;
}

/* From now on the allocation `n` (from 1 on; 0 for none) of at least `size` bytes fails. */
void arm(long n, size_t size) {
    if (!exempt_to)
        dl_iterate_phdr(find_libgomp, 0);
    seen = 0, nth = n, least = size;
}

/* How many there were; from now on all succeed. */
long disarm(void) {
    nth = 0;
    return seen;
}

/* The bytes that the process has and has not given back. */
long live_bytes(void) { return __atomic_load_n(&live, __ATOMIC_RELAXED); }

static int fails(size_t size, char *caller) {
    if (!nth || size < least || (caller >= exempt_from && caller < exempt_to) || ++seen != nth)
        return 0;
    errno = ENOMEM;
    return 1;
}

static void *counted(void *block) {
    if (block)
        __atomic_fetch_add(&live, (long)malloc_usable_size(block), __ATOMIC_RELAXED);
    return block;
}

#define FAILS(size) fails(size, __builtin_return_address(0))

void *malloc(size_t size) { return FAILS(size) ? 0 : counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return FAILS(count * size) ? 0 : counted(__libc_calloc(count, size)); }

void *memalign(size_t alignment, size_t size) { return FAILS(size) ? 0 : counted(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) {
    return FAILS(size) ? 0 : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = FAILS(size) ? 0 : counted(__libc_memalign(alignment, size));
    return *block ? 0 : ENOMEM;
}

void *realloc(void *block, size_t size) {
    if (FAILS(size))
        return 0;
    long before = block ? (long)malloc_usable_size(block) : 0;
    void *moved = __libc_realloc(block, size);
    if (moved || !size)
        __atomic_fetch_sub(&live, before, __ATOMIC_RELAXED);
    return counted(moved);
}

void free(void *block) {
    if (block)
        __atomic_fetch_sub(&live, (long)malloc_usable_size(block), __ATOMIC_RELAXED);
    __libc_free(block);
}

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    if ((flags & MAP_ANONYMOUS) && FAILS(size))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}
