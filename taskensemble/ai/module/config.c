/* What can be set: arguments of MODULE LOAD, and AI.CONFIG. limits.h lists the names. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "commands.h"
#include "limits.h"
#include "request.h"
#include "supervisor.h"

enum { MIB = 1024 * 1024 };

Limits limits = {
    .tensor_bytes = INT64_C(4) * 1024 * MIB,
    .model_chunk_size = INT64_C(511) * MIB,
    .model_execution_timeout = 5000,
    .worker_timeout = 300000,
    .worker_start_timeout = 120000,
    .worker_grace = 10000,
    .shared_memory = INT64_C(1024) * MIB,
    .threads_per_queue = 1,
};

typedef struct Setting {
    const char *name;
    int64_t *value;
    int64_t least;
    int64_t most;
    int at_runtime; /* AI.CONFIG may change it */
} Setting;

static const Setting settings[] = {
    {"MODEL_CHUNK_SIZE", &limits.model_chunk_size, 1, INT64_C(1) << 40, 1},
    {"MODEL_EXECUTION_TIMEOUT", &limits.model_execution_timeout, 1000, INT32_MAX, 0},
    {"WORKER_TIMEOUT", &limits.worker_timeout, 100, INT32_MAX, 1},
    {"WORKER_START_TIMEOUT", &limits.worker_start_timeout, 100, INT32_MAX, 1},
    {"WORKER_GRACE", &limits.worker_grace, 0, INT32_MAX, 1},
    {"SHARED_MEMORY", &limits.shared_memory, 0, INT64_C(1) << 44, 1},
    {"MAX_TENSOR_BYTES", &limits.tensor_bytes, 1024, INT64_C(1) << 40, 1},
    {"THREADS_PER_QUEUE", &limits.threads_per_queue, 1, 1024, 0},
    {"INTER_OP_PARALLELISM", &limits.inter_op_parallelism, 0, 4096, 0},
    {"INTRA_OP_PARALLELISM", &limits.intra_op_parallelism, 0, 4096, 0},
};

static const Setting *setting_named(const char *name) {
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        if (strcasecmp(name, settings[i].name) == 0) return &settings[i];
    }
    return NULL;
}

static int setting_set(const Setting *setting, RedisModuleString *text) {
    long long value;
    if (server.StringToLongLong(text, &value) != API_OK || value < setting->least || value > setting->most) return 0;
    *setting->value = value;
    return 1;
}

static void set_backends_path(RedisModuleString *path) {
    size_t length;
    const char *text = server.StringPtrLen(path, &length);
    if (limits.backends_path) server.Free(limits.backends_path);
    limits.backends_path = text_copy(text, length);
}

/* Arguments the original knows that mean nothing here: they are accepted, so that its configuration files load. */
static int is_obsolete(const char *name) {
    return strcasecmp(name, "BACKEND_MEMORY_LIMIT") == 0 || backend_parse(name) != BACKEND_NONE;
}

int limits_read(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    for (int i = 0; i < argc; i += 2) {
        const char *name = server.StringPtrLen(argv[i], NULL);
        const Setting *setting = setting_named(name);
        if (i + 1 == argc) {
            server.Log(ctx, LOG_WARNING, "module argument %s has no value", name);
            return 0;
        }
        if (strcasecmp(name, "BACKENDSPATH") == 0) {
            set_backends_path(argv[i + 1]);
        } else if (setting && !setting_set(setting, argv[i + 1])) {
            server.Log(ctx, LOG_WARNING, "module argument %s: '%s' is not a number from %lld to %lld", name,
                       server.StringPtrLen(argv[i + 1], NULL), (long long)setting->least, (long long)setting->most);
            return 0;
        } else if (!setting && !is_obsolete(name)) {
            server.Log(ctx, LOG_WARNING, "unknown module argument %s", name);
            return 0;
        }
    }
    return 1;
}

/* ---- AI.CONFIG ---- */

static int config_get(RedisModuleCtx *ctx, RedisModuleString *name) {
    const Setting *setting = setting_named(server.StringPtrLen(name, NULL));
    if (setting) return server.ReplyWithLongLong(ctx, *setting->value);
    if (argument_is(name, "BACKENDSPATH") && limits.backends_path) return server.ReplyWithCString(ctx, limits.backends_path);
    return server.ReplyWithNull(ctx);
}

/* Whether a path names a shared library. */
static int names_library(RedisModuleString *path) {
    size_t length;
    const char *text = server.StringPtrLen(path, &length);
    return length > 3 && memcmp(text + length - 3, ".so", 3) == 0;
}

/* Backends are not loaded from files here, and none is looked for: the reply tells whether inference workers for this one can be had. */
static int config_load_backend(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4) return server.WrongArity(ctx);
    Backend backend = backend_parse(server.StringPtrLen(argv[2], NULL));
    if (backend == BACKEND_NONE) return server.ReplyWithError(ctx, "ERR unsupported backend");
    for (const Lane *lane = lane_first(); lane && names_library(argv[3]); lane = lane->next) {
        if (lane->backend == backend && lane_can_serve(lane)) return server.ReplyWithSimpleString(ctx, "OK");
    }
    return server.ReplyWithError(ctx, "ERR error loading backend");
}

static int config_set(RedisModuleCtx *ctx, const Setting *setting, RedisModuleString **argv, int argc) {
    char text[128];
    int chunk = setting->value == &limits.model_chunk_size;
    if (argc < 3) {
        snprintf(text, sizeof(text), "ERR %s: missing %s", setting->name, chunk ? "chunk size" : "value");
        return server.ReplyWithError(ctx, text);
    }
    if (!setting->at_runtime || !setting_set(setting, argv[2])) {
        snprintf(text, sizeof(text), "ERR %s: invalid %s", setting->name, chunk ? "chunk size" : "value");
        return server.ReplyWithError(ctx, text);
    }
    return server.ReplyWithSimpleString(ctx, "OK");
}

int config_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 2) return server.WrongArity(ctx);
    if (argument_is(argv[1], "LOADBACKEND")) return config_load_backend(ctx, argv, argc);
    if (argument_is(argv[1], "GET")) return argc > 2 ? config_get(ctx, argv[2]) : server.WrongArity(ctx);
    if (argument_is(argv[1], "BACKENDSPATH")) {
        if (argc < 3) return server.ReplyWithError(ctx, "ERR BACKENDSPATH: missing path argument");
        set_backends_path(argv[2]);
        return server.ReplyWithSimpleString(ctx, "OK");
    }
    const Setting *setting = setting_named(server.StringPtrLen(argv[1], NULL));
    if (setting) return config_set(ctx, setting, argv, argc);
    return server.ReplyWithError(ctx, "ERR unsupported subcommand");
}
