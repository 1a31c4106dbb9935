/* Keys and what they hold: finding, storing, deleting, scanning, for all command families. */
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "commands.h"
#include "queue.h"
#include "request.h"
#include "supervisor.h"

int argument_is(const RedisModuleString *argument, const char *keyword) {
    size_t length;
    const char *text = server.StringPtrLen(argument, &length);
    return length == strlen(keyword) && strcasecmp(text, keyword) == 0;
}

int64_t process_id(void) {
    return getpid();
}

int is_repeated(RedisModuleCtx *ctx) {
    return (server.GetContextFlags(ctx) & (CONTEXT_REPLICATED | CONTEXT_LOADING)) != 0;
}

int blocking_refused(RedisModuleCtx *ctx) {
    int flags = server.GetContextFlags(ctx);
    if (!(flags & (CONTEXT_LUA | CONTEXT_MULTI | CONTEXT_DENY_BLOCKING))) return 0;
    if (flags & (CONTEXT_REPLICATED | CONTEXT_LOADING)) return 0;
    server.ReplyWithError(ctx, "ERR Cannot run RedisAI command within a transaction or a LUA script");
    return 1;
}

/* The value of a key that has this type. *wrong tells whether the key holds something else. */
static void *value_of(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleType *type, int *wrong) {
    *wrong = 0;
    RedisModuleKey *key = server.OpenKey(ctx, name, KEY_READ);
    if (!key) return NULL;
    void *value = NULL;
    int held = server.KeyType(key);
    if (held == KEYTYPE_MODULE && server.ModuleTypeGetType(key) == type) {
        value = server.ModuleTypeGetValue(key);
    } else if (held != KEYTYPE_EMPTY) {
        *wrong = 1;
    }
    server.CloseKey(key);
    return value;
}

Tensor *tensor_find(RedisModuleCtx *ctx, RedisModuleString *key, const char **error) {
    int wrong;
    Tensor *tensor = value_of(ctx, key, tensor_type, &wrong);
    if (!tensor) *error = wrong ? WRONGTYPE : "ERR tensor key is empty or in a different shard";
    return tensor;
}

static RedisModuleType *type_of(AssetKind kind) {
    return kind == ASSET_MODEL ? model_type : script_type;
}

Asset *asset_find(RedisModuleCtx *ctx, RedisModuleString *key, AssetKind kind, const char **error) {
    int wrong;
    Asset *asset = value_of(ctx, key, type_of(kind), &wrong);
    if (!asset && wrong) *error = WRONGTYPE;
    if (!asset && !wrong) *error = kind == ASSET_MODEL ? "ERR model key is empty" : "ERR script key is empty";
    return asset;
}

static const char *store_command(const Asset *asset) {
    if (asset->kind == ASSET_MODEL) return "AI.MODELSTORE";
    return asset->entry_points.count ? "AI.SCRIPTSTORE" : "AI.SCRIPTSET";
}

static void asset_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const Asset *asset) {
    RedisModuleString **arguments;
    int count = asset->kind == ASSET_MODEL ? model_store_arguments(asset, &arguments) : script_store_arguments(asset, &arguments);
    server.Replicate(ctx, store_command(asset), "sv", key, arguments, (size_t)count);
    store_arguments_free(arguments, count);
}

void store_arguments_free(RedisModuleString **arguments, int count) {
    for (int i = 0; i < count; i++) server.FreeString(NULL, arguments[i]);
    server.Free(arguments);
}

/* Whether an asset of this kind may be put into the key. */
static int key_accepts(RedisModuleCtx *ctx, RedisModuleString *key, AssetKind kind) {
    int wrong;
    value_of(ctx, key, type_of(kind), &wrong);
    return !wrong;
}

const char *asset_put(RedisModuleCtx *ctx, RedisModuleString *name, Asset *asset) {
    if (!key_accepts(ctx, name, asset->kind)) return WRONGTYPE;
    RedisModuleKey *key = server.OpenKey(ctx, name, KEY_READ | KEY_WRITE);
    server.ModuleTypeSetValue(key, type_of(asset->kind), asset_retain(asset));
    server.CloseKey(key);
    asset_replicate(ctx, name, asset);
    return NULL;
}

/* What makes a store fail before anything is tried, or NULL. */
static const char *store_refusal(RedisModuleCtx *ctx, RedisModuleString *key, Asset *asset) {
    if (!key_accepts(ctx, key, asset->kind)) return WRONGTYPE;
    const Lane *lane = lane_of_asset(asset);
    return lane_can_serve(lane) ? NULL : lane_refusal(lane);
}

int asset_store(RedisModuleCtx *ctx, RedisModuleString *key, Asset *asset) {
    if (is_repeated(ctx)) {
        const char *error = asset_put(ctx, key, asset);
        asset_release(asset);
        return error ? server.ReplyWithError(ctx, error) : server.ReplyWithSimpleString(ctx, "OK");
    }
    const char *refusal = store_refusal(ctx, key, asset);
    if (refusal) {
        asset_release(asset);
        return server.ReplyWithError(ctx, refusal);
    }
    Request *request = request_create(REQUEST_STORE, 0, 0);
    server.RetainString(NULL, key);
    request->key = key;
    request->asset = asset;
    request_submit(ctx, request, 0);
    return API_OK;
}

int asset_delete(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, AssetKind kind) {
    const char *error;
    if (argc != 2) return server.WrongArity(ctx);
    if (!asset_find(ctx, argv[1], kind, &error)) return server.ReplyWithError(ctx, error);
    RedisModuleKey *key = server.OpenKey(ctx, argv[1], KEY_READ | KEY_WRITE);
    server.DeleteKey(key);
    server.CloseKey(key);
    server.ReplicateVerbatim(ctx);
    return server.ReplyWithSimpleString(ctx, "OK");
}

/* ---- Scans ---- */

typedef struct Found {
    RedisModuleString *key;
    Asset *asset;
} Found;

typedef struct Scan {
    RedisModuleType *type;
    Found *found;
    int count;
    int capacity;
} Scan;

static void on_scanned(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleKey *key, void *data) {
    Scan *scan = data;
    (void)ctx;
    if (!key || server.KeyType(key) != KEYTYPE_MODULE || server.ModuleTypeGetType(key) != scan->type) return;
    Asset *asset = server.ModuleTypeGetValue(key);
    if (scan->count == scan->capacity) {
        scan->capacity = scan->capacity ? scan->capacity * 2 : 16;
        scan->found = server.Realloc(scan->found, (size_t)scan->capacity * sizeof(Found));
    }
    server.RetainString(NULL, name);
    scan->found[scan->count++] = (Found){name, asset_retain(asset)};
}

/* Walks the whole database, as SCAN does: names are the keys' own, whatever renamed, copied or restored them. */
int asset_scan(RedisModuleCtx *ctx, int argc, AssetKind kind) {
    if (argc != 1) return server.WrongArity(ctx);
    Scan scan = {.type = type_of(kind)};
    RedisModuleScanCursor *cursor = server.ScanCursorCreate();
    while (server.Scan(ctx, cursor, on_scanned, &scan)) {
    }
    server.ScanCursorDestroy(cursor);
    server.ReplyWithArray(ctx, scan.count);
    for (int i = 0; i < scan.count; i++) {
        server.ReplyWithArray(ctx, 2);
        server.ReplyWithString(ctx, scan.found[i].key);
        server.ReplyWithStringBuffer(ctx, scan.found[i].asset->tag, scan.found[i].asset->tag_length);
        server.FreeString(NULL, scan.found[i].key);
        asset_release(scan.found[i].asset);
    }
    if (scan.found) server.Free(scan.found);
    return API_OK;
}

const char *device_error(const char *device, const char *const *keywords) {
    Device parsed;
    if (strlen(device) > DEVICE_TEXT_MAX) return "ERR Invalid DEVICE";
    for (; *keywords; keywords++) {
        if (strcasecmp(device, *keywords) == 0) return "ERR Invalid DEVICE";
    }
    return device_parse(device, &parsed) ? NULL : "ERR unsupported device";
}
