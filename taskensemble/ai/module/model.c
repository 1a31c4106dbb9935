/* The native type AI__MODEL. What a model is in memory: asset.h. In RDB files: the common fields (backend, device, tag, blob), the
 * batching numbers, the numbers of inputs and outputs shifted by one (0: unknown), their names, checksum. */
#include "asset.h"
#include "request.h"

enum { ENCODING_VERSION = 100 };

RedisModuleType *model_type;

static void model_rdb_save(RedisModuleIO *rdb, void *value) {
    const Asset *model = value;
    asset_save_common(rdb, model);
    server.SaveUnsigned(rdb, (uint64_t)model->batch_size);
    server.SaveUnsigned(rdb, (uint64_t)model->min_batch_size);
    server.SaveUnsigned(rdb, (uint64_t)model->min_batch_timeout);
    server.SaveUnsigned(rdb, (uint64_t)(model->input_count + 1));
    server.SaveUnsigned(rdb, (uint64_t)(model->output_count + 1));
    texts_save(rdb, &model->inputs);
    texts_save(rdb, &model->outputs);
    server.SaveUnsigned(rdb, asset_checksum(model));
}

/* Reads what follows the common fields. Returns 0 if it is damaged. */
static int load_model_fields(RedisModuleIO *rdb, Asset *model) {
    int failed = 0;
    model->batch_size = (int64_t)load_limited(rdb, INT64_MAX, &failed);
    model->min_batch_size = (int64_t)load_limited(rdb, INT64_MAX, &failed);
    model->min_batch_timeout = (int64_t)load_limited(rdb, INT64_MAX, &failed);
    model->input_count = (int)load_limited(rdb, 1 << 20, &failed) - 1;
    model->output_count = (int)load_limited(rdb, 1 << 20, &failed) - 1;
    if (failed || !texts_load(rdb, &model->inputs) || !texts_load(rdb, &model->outputs)) return 0;
    uint64_t sum = server.LoadUnsigned(rdb);
    return !server.IsIOError(rdb) && sum == asset_checksum(model);
}

static void *model_rdb_load(RedisModuleIO *rdb, int encoding_version) {
    Asset *model = encoding_version == ENCODING_VERSION ? asset_load_common(rdb, ASSET_MODEL) : NULL;
    if (model && !load_model_fields(rdb, model)) {
        asset_release(model);
        model = NULL;
    }
    if (!model) server.LogIOError(rdb, LOG_WARNING, "damaged AI__MODEL value, or one of another version: refused");
    return model;
}

static void model_aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    RedisModuleString **arguments;
    int count = model_store_arguments(value, &arguments);
    server.EmitAOF(aof, "AI.MODELSTORE", "sv", key, arguments, (size_t)count);
    store_arguments_free(arguments, count);
}

static size_t model_memory_usage(const void *value) {
    return asset_memory_usage(value);
}

/* Small, so that the server lets go of a model where it is deleted; the work is a few frees. */
static size_t model_free_effort(RedisModuleString *key, const void *value) {
    (void)key;
    (void)value;
    return 1;
}

static void *model_copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    (void)to;
    return asset_copy(value);
}

int model_type_register(RedisModuleCtx *ctx) {
    TypeMethods methods = {
        .version = TYPE_METHODS_VERSION,
        .rdb_load = model_rdb_load,
        .rdb_save = model_rdb_save,
        .aof_rewrite = model_aof_rewrite,
        .memory_usage = model_memory_usage,
        .digest = asset_digest,
        .free = asset_release_anywhere,
        .free_effort = model_free_effort,
        .copy = model_copy,
    };
    model_type = server.CreateDataType(ctx, "AI__MODEL", ENCODING_VERSION, &methods);
    return model_type ? API_OK : API_ERR;
}
