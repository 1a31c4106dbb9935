/* ML assets: what AI.MODELSTORE and AI.SCRIPTSTORE keep. The native types AI__MODEL and AI_SCRIPT have them as values. */
#ifndef TASKENSEMBLE_AI_ASSET_H
#define TASKENSEMBLE_AI_ASSET_H

#include <stdint.h>

#include "api.h"
#include "device.h"
#include "figures.h"

struct Lane;
struct Job;

/* The bytes of a model or the source of a script; shared by copies of a key, freed with the last. */
typedef struct Blob {
    uint32_t references;
    size_t length;
    RedisModuleString *held; /* the command's argument that carries the bytes; NULL: they lie behind this structure */
    int memory;              /* sealed memory with the same bytes while workers load them (sealed.h), or -1 */
    int loads;               /* units under way in which a worker loads them */
} Blob;

/* Texts of an asset: names, tag. An array of strings that the array owns. */
typedef struct Texts {
    int count;
    char **items;
} Texts;

typedef enum AssetKind { ASSET_MODEL, ASSET_SCRIPT } AssetKind;

enum { WORKER_SLOTS = 256, TEXTS_MAX = 65535 };

typedef struct Asset {
    uint32_t references; /* keys, jobs; main thread only */
    AssetKind kind;
    uint64_t version; /* unique while the server runs */
    Backend backend;
    char device[DEVICE_TEXT_MAX + 1]; /* as the caller wrote it */
    char *tag;
    size_t tag_length;
    Blob *blob;

    /* models */
    int64_t batch_size;
    int64_t min_batch_size;
    int64_t min_batch_timeout; /* ms */
    Texts inputs;              /* given by the caller (TF), else as the worker tells after loading */
    Texts outputs;
    int input_count; /* -1: not known, any number is accepted here and the worker decides */
    int output_count;
    /* scripts */
    Texts entry_points; /* none: stored by AI.SCRIPTSET, any function may be called */

    /* what AI.INFO tells */
    int64_t calls;
    int64_t samples;
    int64_t errors;
    int64_t duration_us;
    Figures figures;

    /* what the queue has learned */
    int64_t usual_us;           /* moving average of one run's time; 0: never ran */
    int64_t typical_us;         /* near the median, which the few runs that lost their core do not move much */
    int64_t output_bytes;       /* of one run, per sample: how much room to give in shared memory */
    uint64_t loaded[WORKER_SLOTS / 64]; /* which workers hold it */

    /* the queue of jobs that wait for this asset, see queue.c */
    struct Job *first;
    struct Job *last;
    int waiting;
    struct Lane *lane;
    struct Asset *ring_next; /* the lane's assets with waiting jobs */
    struct Asset *ring_previous;
    RedisModuleTimerID batch_timer;
    int batch_timer_set;

    struct Asset *next; /* all assets */
    struct Asset *previous;
} Asset;

extern RedisModuleType *model_type;
extern RedisModuleType *script_type;
int model_type_register(RedisModuleCtx *ctx);
int script_type_register(RedisModuleCtx *ctx);

/* A new asset with a version of its own and one reference. */
Asset *asset_create(AssetKind kind, Backend backend, const char *device);
Asset *asset_retain(Asset *asset);
void asset_release(Asset *asset);
/* The same from any thread. */
void asset_release_anywhere(void *value);
/* Another key's asset with the same bytes: new version, new statistics. */
Asset *asset_copy(const Asset *asset);
size_t asset_memory_usage(const Asset *asset);
void asset_reset_statistics(Asset *asset);
Asset *asset_first(void);

Blob *blob_of_argument(RedisModuleString *argument);
/* The concatenation of several arguments. NULL if the memory is not to be had. */
Blob *blob_of_chunks(RedisModuleString **chunks, int count);
/* The bytes of sealed memory, copied; takes over the descriptor. NULL if the memory for them is not to be had. */
Blob *blob_of_memory(int memory, size_t length);
void blob_release(Blob *blob);
/* Sealed memory with the bytes, for a worker of this host to load them from until blob_loaded; -1 if there can be none. */
int blob_memory(Blob *blob);
/* A worker is given the bytes, however; and it is done with them. */
void blob_loading(Blob *blob);
void blob_loaded(Blob *blob);
/* The bytes, good until the server gets control back. */
const char *blob_data(const Blob *blob);

/* Room for `count` texts, all empty. */
Texts texts_create(int count);
void texts_set(Texts *texts, int index, const char *data, size_t length);
Texts texts_copy(const Texts *texts);
void texts_free(Texts *texts);
int texts_contain(const Texts *texts, const char *text);
void asset_set_tag(Asset *asset, const char *tag, size_t length);

/* For rdb_load: number read, or 0 with *failed set when it is above the limit or the file ends. */
uint64_t load_limited(RedisModuleIO *rdb, uint64_t limit, int *failed);
/* Saving and loading of the fields that models and scripts share; the sum goes on over what they read and write. */
void texts_save(RedisModuleIO *rdb, const Texts *texts);
int texts_load(RedisModuleIO *rdb, Texts *texts);
uint64_t asset_checksum(const Asset *asset);
void asset_save_common(RedisModuleIO *rdb, const Asset *asset);
/* NULL if the payload is not one. */
Asset *asset_load_common(RedisModuleIO *rdb, AssetKind kind);
void asset_digest(RedisModuleDigest *digest, void *value);

#endif
