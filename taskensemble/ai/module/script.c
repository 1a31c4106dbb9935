/* The native type AI_SCRIPT. What a script is in memory: asset.h. In RDB files: the common fields (backend, device, tag,
 * source), the entry points, checksum. */
#include "asset.h"
#include "request.h"

enum { ENCODING_VERSION = 100 };

RedisModuleType *script_type;

static void script_rdb_save(RedisModuleIO *rdb, void *value) {
    const Asset *script = value;
    asset_save_common(rdb, script);
    texts_save(rdb, &script->entry_points);
    server.SaveUnsigned(rdb, asset_checksum(script));
}

static int load_script_fields(RedisModuleIO *rdb, Asset *script) {
    if (!texts_load(rdb, &script->entry_points)) return 0;
    uint64_t sum = server.LoadUnsigned(rdb);
    return !server.IsIOError(rdb) && sum == asset_checksum(script);
}

static void *script_rdb_load(RedisModuleIO *rdb, int encoding_version) {
    Asset *script = encoding_version == ENCODING_VERSION ? asset_load_common(rdb, ASSET_SCRIPT) : NULL;
    if (script && !load_script_fields(rdb, script)) {
        asset_release(script);
        script = NULL;
    }
    if (!script) server.LogIOError(rdb, LOG_WARNING, "damaged AI_SCRIPT value, or one of another version: refused");
    return script;
}

static void script_aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    RedisModuleString **arguments;
    int count = script_store_arguments(value, &arguments);
    const Asset *script = value;
    const char *command = script->entry_points.count ? "AI.SCRIPTSTORE" : "AI.SCRIPTSET";
    server.EmitAOF(aof, command, "sv", key, arguments, (size_t)count);
    store_arguments_free(arguments, count);
}

static size_t script_memory_usage(const void *value) {
    return asset_memory_usage(value);
}

static size_t script_free_effort(RedisModuleString *key, const void *value) {
    (void)key;
    (void)value;
    return 1;
}

static void *script_copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    (void)to;
    return asset_copy(value);
}

int script_type_register(RedisModuleCtx *ctx) {
    TypeMethods methods = {
        .version = TYPE_METHODS_VERSION,
        .rdb_load = script_rdb_load,
        .rdb_save = script_rdb_save,
        .aof_rewrite = script_aof_rewrite,
        .memory_usage = script_memory_usage,
        .digest = asset_digest,
        .free = asset_release_anywhere,
        .free_effort = script_free_effort,
        .copy = script_copy,
    };
    script_type = server.CreateDataType(ctx, "AI_SCRIPT", ENCODING_VERSION, &methods);
    return script_type ? API_OK : API_ERR;
}
