/* Counts what an emulated processor executes between marks: a plugin of QEMU's user mode (plugin interface version 1, QEMU 4.2 to 8.2).
 *
 * The program inside marks a moment with lseek(-7701, tag, 0), which fails and does nothing; an even tag begins a measurement, an odd one
 * ends it. Each mark adds a line with the counts since the start to the file that was given as `out`. Every block of code is classified
 * once, when it is translated, and costs one addition each time it is executed.
 *
 * Options: out=FILE; caches=BYTES:WAYS:BYTES:WAYS:LINE sends every access between begin and end through a model of two levels of data
 * cache (least recently used, allocated on reads and writes, virtual addresses, nothing fetched ahead, no code). That is several times
 * slower.
 *
 * QEMU's package carries no header, so what is used of the interface is declared here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VISIBLE __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info {
    const char *target_name;
    struct { int min, cur; } version;
    bool system_emulation;
    int smp_vcpus, max_vcpus;
};
typedef void on_translation(plugin_id, struct qemu_plugin_tb *);
typedef void on_syscall(plugin_id, unsigned vcpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t);
typedef void on_access(unsigned vcpu, uint32_t info, uint64_t address, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translation *);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t amount);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, on_access *, int flags, int directions, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(uint32_t info);

enum { ADD_U64 = 0, NO_REGISTERS = 0, READS_AND_WRITES = 3 };
enum { MARK = -7701, LSEEK_AARCH64 = 62, LSEEK_X86_64 = 8 };

VISIBLE int qemu_plugin_version = 1;

/* Classes */

enum class { DOT, MMLA, WIDENING_MULTIPLY, FLOAT_FMA, OTHER_SIMD, LOAD, STORE, BRANCH, OTHER, CLASSES };

struct encoding { uint32_t mask, value; enum class class; };

/* Vector instructions that do a network's arithmetic, by the bits that the Arm architecture fixes. */
static const struct encoding VECTOR[] = {
    /* Advanced SIMD: integer dot products, vectors and by element */
    {0x9FE0FC00, 0x0E809400, DOT}, /* SDOT, UDOT */
    {0xBFE0FC00, 0x0E809C00, DOT}, /* USDOT */
    {0x9FC0F400, 0x0F80E000, DOT}, /* SDOT, UDOT by element */
    {0xBFC0F400, 0x0F80F000, DOT}, /* USDOT by element */
    {0xBFC0F400, 0x0F00F000, DOT}, /* SUDOT by element */
    /* integer matrix products */
    {0xDFE0FC00, 0x4E80A400, MMLA}, /* SMMLA, UMMLA */
    {0xFFE0FC00, 0x4E80AC00, MMLA}, /* USMMLA */
    /* products of twice the width */
    {0x9F20BC00, 0x0E208000, WIDENING_MULTIPLY}, /* SMLAL, UMLAL, SMULL, UMULL */
    {0x9F20FC00, 0x0E20A000, WIDENING_MULTIPLY}, /* SMLSL, UMLSL */
    {0xBF20BC00, 0x0E209000, WIDENING_MULTIPLY}, /* SQDMLAL, SQDMULL */
    {0xBF20FC00, 0x0E20B000, WIDENING_MULTIPLY}, /* SQDMLSL */
    {0x9F00F400, 0x0F002000, WIDENING_MULTIPLY}, /* the same by element */
    {0xBF00F400, 0x0F003000, WIDENING_MULTIPLY},
    {0x9F00F400, 0x0F006000, WIDENING_MULTIPLY},
    {0xBF00F400, 0x0F007000, WIDENING_MULTIPLY},
    {0x9F00F400, 0x0F00A000, WIDENING_MULTIPLY},
    {0xBF00F400, 0x0F00B000, WIDENING_MULTIPLY},
    /* float: multiply and add in one, also to twice the width and of bfloat16 */
    {0xBF20FC00, 0x0E20CC00, FLOAT_FMA}, /* FMLA, FMLS */
    {0xBF60FC00, 0x0E400C00, FLOAT_FMA}, /* of float16 */
    {0xBF80B400, 0x0F801000, FLOAT_FMA}, /* by element */
    {0xBFC0B400, 0x0F001000, FLOAT_FMA}, /* by element of float16 */
    {0xBF60FC00, 0x0E20EC00, FLOAT_FMA}, /* FMLAL, FMLSL */
    {0xBF60FC00, 0x2E20CC00, FLOAT_FMA}, /* FMLAL2, FMLSL2 */
    {0xBFC0B400, 0x0F800000, FLOAT_FMA}, /* FMLAL, FMLSL by element */
    {0xBFC0B400, 0x2F808000, FLOAT_FMA}, /* FMLAL2, FMLSL2 by element */
    {0xBFE0FC00, 0x2E40FC00, FLOAT_FMA}, /* BFDOT */
    {0xFFE0FC00, 0x6E40EC00, FLOAT_FMA}, /* BFMMLA */
    {0xBFE0FC00, 0x2EC0FC00, FLOAT_FMA}, /* BFMLALB, BFMLALT */
    {0xBF40F400, 0x0F40F000, FLOAT_FMA}, /* BFDOT, BFMLALB, BFMLALT by element */
    {0xFF000000, 0x1F000000, FLOAT_FMA}, /* FMADD and its kin, scalar */
    /* SVE */
    {0xFF20F800, 0x44000000, DOT},               /* SDOT, UDOT */
    {0xFFE0FC00, 0x44807800, DOT},               /* USDOT */
    {0xFFA0F800, 0x44A00000, DOT},               /* SDOT, UDOT by element */
    {0xFFE0F800, 0x44A01800, DOT},               /* USDOT, SUDOT by element */
    {0xFF20FC00, 0x45009800, MMLA},              /* SMMLA, USMMLA, UMMLA */
    {0xFF20E000, 0x44004000, WIDENING_MULTIPLY}, /* SMLALB, SMLALT, UMLALB, UMLALT and their subtracting kin */
    {0xFF20F000, 0x45007000, WIDENING_MULTIPLY}, /* SMULLB, SMULLT, UMULLB, UMULLT */
    {0xFF200000, 0x65200000, FLOAT_FMA},         /* FMLA, FMLS, FMAD and their kin */
    {0xFF20F800, 0x64200000, FLOAT_FMA},         /* FMLA, FMLS by element */
};

static enum class memory_class(uint32_t word)
{
    unsigned group = word >> 28 & 3, opc = word >> 22 & 3;
    bool vector = word >> 26 & 1;
    if ((word & 0x3F200C00) == 0x38200000) /* reads, changes and writes at once */
        return LOAD;
    if (group == 3) /* one register; opc's upper bit makes a vector of 128 bits, or extends an integer's sign */
        return (vector ? opc & 1 : opc != 0) ? LOAD : STORE;
    if (group == 1 && !(word >> 24 & 1)) /* relative to the code */
        return LOAD;
    if (group == 1) /* LDAPUR, STLUR */
        return opc ? LOAD : STORE;
    return opc & 1 ? LOAD : STORE; /* pairs, structures, exclusive */
}

/* The class of one A64 instruction. */
VISIBLE int edgekit_class_of_a64(uint32_t word)
{
    unsigned group = word >> 25 & 15;
    if ((group & 5) == 4)
        return memory_class(word);
    if (group == 2 && word >> 31)
        return word >> 29 == 7 ? STORE : LOAD; /* SVE's */
    if (group == 2 || (group & 7) == 7) {
        for (size_t i = 0; i < sizeof VECTOR / sizeof *VECTOR; i++)
            if ((word & VECTOR[i].mask) == VECTOR[i].value)
                return VECTOR[i].class;
        return OTHER_SIMD;
    }
    if ((group & 14) == 10 && word >> 24 != 0xD4 && word >> 24 != 0xD5) /* those two are exceptions and the system's */
        return BRANCH;
    return OTHER;
}

/* Caches */

struct cache {
    uint64_t sets, ways, misses;
    struct { uint64_t line, used; } *entries;
};

static struct cache l1, l2;
static uint64_t moment, accessed_bytes, line_shift;
static bool modelled, measuring;

static void make_cache(struct cache *cache, uint64_t bytes, uint64_t ways)
{
    cache->ways = ways;
    cache->sets = bytes / ways >> line_shift;
    cache->entries = calloc(cache->sets * ways, sizeof *cache->entries);
}

/* Whether a line was there; it is the most recently used one afterwards. Lines are numbered from 1, so that 0 is an empty entry. */
VISIBLE bool edgekit_touch(struct cache *cache, uint64_t line)
{
    uint64_t first = line % cache->sets * cache->ways, oldest = first;
    for (uint64_t i = first; i < first + cache->ways; i++) {
        if (cache->entries[i].line == line + 1) {
            cache->entries[i].used = ++moment;
            return true;
        }
        if (cache->entries[i].used < cache->entries[oldest].used)
            oldest = i;
    }
    cache->entries[oldest].line = line + 1;
    cache->entries[oldest].used = ++moment;
    cache->misses++;
    return false;
}

static void accessed(unsigned vcpu, uint32_t info, uint64_t address, void *unused)
{
    (void)vcpu, (void)unused;
    if (!measuring)
        return;
    uint64_t bytes = UINT64_C(1) << qemu_plugin_mem_size_shift(info);
    accessed_bytes += bytes;
    for (uint64_t line = address >> line_shift; line <= (address + bytes - 1) >> line_shift; line++)
        if (!edgekit_touch(&l1, line))
            edgekit_touch(&l2, line);
}

/* Blocks and marks */

struct block {
    uint64_t executed;
    uint32_t instructions, classes[CLASSES];
    struct block *next;
};

static struct block *blocks;
static FILE *out;
static bool a64;

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->instructions = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < block->instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        int class = OTHER;
        if (a64) {
            uint32_t word;
            memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
            class = edgekit_class_of_a64(word);
        }
        block->classes[class]++;
        if (modelled && (!a64 || class == LOAD || class == STORE))
            qemu_plugin_register_vcpu_mem_cb(instruction, accessed, NO_REGISTERS, READS_AND_WRITES, NULL);
    }
    do
        block->next = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&blocks, &block->next, block, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->executed, 1);
}

static void marked(int64_t tag)
{
    uint64_t total = 0, classes[CLASSES] = {0};
    measuring = false;
    for (const struct block *block = __atomic_load_n(&blocks, __ATOMIC_ACQUIRE); block; block = block->next) {
        total += block->executed * block->instructions;
        for (int i = 0; block->executed && i < CLASSES; i++)
            classes[i] += block->executed * block->classes[i];
    }
    fprintf(out, "%lld %llu", (long long)tag, (unsigned long long)total);
    for (int i = 0; i < CLASSES; i++)
        fprintf(out, " %llu", (unsigned long long)classes[i]);
    fprintf(out, " %llu %llu %llu\n", (unsigned long long)accessed_bytes, (unsigned long long)l1.misses, (unsigned long long)l2.misses);
    fflush(out);
    measuring = modelled && tag % 2 == 0;
}

static void called(plugin_id id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                   uint64_t a7, uint64_t a8)
{
    (void)id, (void)vcpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == (a64 ? LSEEK_AARCH64 : LSEEK_X86_64) && (int32_t)a1 == MARK)
        marked((int64_t)a2);
}

VISIBLE int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int count, char **options)
{
    a64 = !strcmp(info->target_name, "aarch64");
    if (info->version.min > 1 || !(a64 || !strcmp(info->target_name, "x86_64"))) {
        fprintf(stderr, "counting plugin: made for plugin interface 1 and aarch64 or x86_64, not %d and %s\n", info->version.min,
                info->target_name);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        unsigned long long bytes1, ways1, bytes2, ways2, line;
        if (!strncmp(options[i], "out=", 4)) {
            out = fopen(options[i] + 4, "w");
        } else if (sscanf(options[i], "caches=%llu:%llu:%llu:%llu:%llu", &bytes1, &ways1, &bytes2, &ways2, &line) == 5) {
            modelled = true;
            line_shift = __builtin_ctzll(line);
            make_cache(&l1, bytes1, ways1);
            make_cache(&l2, bytes2, ways2);
        } else {
            fprintf(stderr, "counting plugin: unknown option %s\n", options[i]);
            return 1;
        }
    }
    if (!out || (modelled && !(l1.entries && l2.entries))) {
        fprintf(stderr, "counting plugin: cannot write the counts, or no memory for the caches\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
