// Runs functions of a compiled module on buffers, for processors that this machine is not: see emulated.py.
//
//   driver MODULE < job > results
//
// Numbers are int64, little endian.  The job: count of buffers, each its size, alignment and content; count of calls,
// each a symbol (length, bytes), its operands (count, then buffer and offset of each), size of the workspace, and
// ranges (count, then begin and end of each).  The results: the content of every buffer.  A buffer ends at a page that
// may not be touched, or starts at one where its alignment is 0; what is beside it must keep its pattern, and so the
// workspace.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PATTERN = 0xA5, UNSET = 0xFF };

typedef void (*Kernel)(void* const* operands, void* workspace, int64_t begin, int64_t end);

typedef struct {
    unsigned char *pages, *data;
    size_t length, size;
} Memory;

static void fail(const char* what, const char* name) {
    fprintf(stderr, "%s %s\n", what, name);
    exit(3);
}

static void take(void* to, size_t size) {
    if (fread(to, 1, size, stdin) != size) fail("the job is cut", "");
}

static int64_t number(void) {
    int64_t value;
    take(&value, sizeof value);
    return value;
}

static Memory allocate(size_t size, size_t alignment) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), length = (size + page - 1) / page * page + (size ? 0 : page);
    unsigned char* all = mmap(NULL, length + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all, page, PROT_NONE) || mprotect(all + page + length, page, PROT_NONE))
        fail("no memory", "");
    Memory memory = {all + page, all + page, length, size};
    memset(memory.pages, PATTERN, length);
    if (alignment) memory.data += (length - size) / alignment * alignment;
    return memory;
}

static void check(const Memory* memory, const char* name) {
    for (unsigned char* at = memory->pages; at < memory->pages + memory->length; at++) {
        if (at == memory->data) at += memory->size;
        if (at < memory->pages + memory->length && *at != PATTERN) fail("written beside memory by", name);
    }
}

int main(int count, char** arguments) {
    void* module = count == 2 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    if (!module) fail("cannot load:", count == 2 ? dlerror() : "no module named");
    const int64_t buffers = number();
    Memory* memory = calloc((size_t)buffers + 1, sizeof *memory);
    for (int64_t b = 0; b < buffers; b++) {
        const int64_t size = number(), alignment = number();
        memory[b] = allocate((size_t)size, (size_t)alignment);
        take(memory[b].data, (size_t)size);
    }
    for (int64_t calls = number(); calls > 0; calls--) {
        char symbol[256] = "";
        const int64_t length = number();
        if (length >= (int64_t)sizeof symbol) fail("the job is damaged", "");
        take(symbol, (size_t)length);
        Kernel kernel = (Kernel)dlsym(module, symbol);
        if (!kernel) fail("there is no function", symbol);
        const int64_t operands = number();
        void** pointers = calloc((size_t)operands + 1, sizeof *pointers);
        for (int64_t i = 0; i < operands; i++) {
            const int64_t buffer = number();
            pointers[i] = memory[buffer].data + number();
        }
        const size_t workspace = (size_t)number();
        for (int64_t ranges = number(); ranges > 0; ranges--) {
            const int64_t begin = number(), end = number();
            Memory own = allocate(workspace, 64);
            memset(own.data, UNSET, workspace);  // NaN, if it were read before it is written
            kernel(pointers, own.data, begin, end);
            check(&own, symbol);
            munmap(own.pages, own.length);
        }
        for (int64_t b = 0; b < buffers; b++) check(&memory[b], symbol);
        free(pointers);
    }
    for (int64_t b = 0; b < buffers; b++) fwrite(memory[b].data, 1, memory[b].size, stdout);
    return fflush(stdout) ? 3 : 0;
}
