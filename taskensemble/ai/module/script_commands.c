/* AI.SCRIPTSTORE, AI.SCRIPTSET, AI.SCRIPTGET, AI.SCRIPTDEL, AI._SCRIPTSCAN. A script stored with entry points is called with
 * (tensors, keys, args); one stored by the older AI.SCRIPTSET has none, and any of its functions is called with tensors. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "cursor.h"
#include "request.h"

#define NO_SOURCE "ERR Insufficient arguments, missing script SOURCE"

typedef struct ScriptCall {
    const char *device;
    RedisModuleString *tag;
    RedisModuleString **entry_points;
    int entry_point_count;
    RedisModuleString *source;
} ScriptCall;

static const char *parse_head(Cursor *cursor, ScriptCall *call) {
    static const char *const keywords[] = {"TAG", "ENTRY_POINTS", "SOURCE", NULL};
    call->device = server.StringPtrLen(cursor_next(cursor), NULL);
    const char *error = device_error(call->device, keywords);
    if (error) return error;
    return cursor_tag(cursor, &call->tag) ? NULL : NO_SOURCE;
}

static const char *parse_entry_points(Cursor *cursor, ScriptCall *call) {
    long long count;
    if (!cursor_match(cursor, "ENTRY_POINTS")) return "ERR Insufficient arguments, missing script entry points";
    if (!cursor_integer(cursor, 1, &count) || count > TEXTS_MAX) {
        return "ERR Non numeric entry points number provided to AI.SCRIPTSTORE command";
    }
    if (count > cursor->left) return "ERR Insufficient arguments, missing script entry points";
    call->entry_points = cursor->argv;
    call->entry_point_count = (int)count;
    cursor->argv += count;
    cursor->left -= (int)count;
    return NULL;
}

static const char *parse_source(Cursor *cursor, ScriptCall *call) {
    call->source = cursor_match(cursor, "SOURCE") ? cursor_next(cursor) : NULL;
    if (!call->source) return NO_SOURCE;
    return cursor->left == 0 ? NULL : "ERR Invalid argument, a single string should come after SOURCE";
}

static int store(RedisModuleCtx *ctx, RedisModuleString *key, const ScriptCall *call) {
    Asset *script = asset_create(ASSET_SCRIPT, BACKEND_TORCH, call->device);
    size_t length = 0;
    const char *tag = call->tag ? server.StringPtrLen(call->tag, &length) : "";
    asset_set_tag(script, tag, length);
    script->blob = blob_of_argument(call->source);
    script->entry_points = texts_create(call->entry_point_count);
    for (int i = 0; i < call->entry_point_count; i++) {
        const char *name = server.StringPtrLen(call->entry_points[i], &length);
        texts_set(&script->entry_points, i, name, length);
    }
    return asset_store(ctx, key, script);
}

int scriptstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 8) return server.WrongArity(ctx);
    if (blocking_refused(ctx)) return API_OK;
    ScriptCall call = {0};
    Cursor cursor = {argv + 2, argc - 2};
    const char *error = parse_head(&cursor, &call);
    if (!error) error = parse_entry_points(&cursor, &call);
    if (!error) error = parse_source(&cursor, &call);
    if (error) return server.ReplyWithError(ctx, error);
    return store(ctx, argv[1], &call);
}

int scriptset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 5 && argc != 7) return server.WrongArity(ctx);
    if (blocking_refused(ctx)) return API_OK;
    ScriptCall call = {0};
    Cursor cursor = {argv + 2, argc - 2};
    const char *error = parse_head(&cursor, &call);
    if (!error) error = parse_source(&cursor, &call);
    if (error) return server.ReplyWithError(ctx, error);
    return store(ctx, argv[1], &call);
}

static RedisModuleString *string_of(const char *text) {
    return server.CreateString(NULL, text, strlen(text));
}

int script_store_arguments(const Asset *script, RedisModuleString ***arguments) {
    RedisModuleString **out = server.Alloc((8 + (size_t)script->entry_points.count) * sizeof(RedisModuleString *));
    char digits[24];
    int count = 0;
    out[count++] = string_of(script->device);
    if (script->tag_length) {
        out[count++] = string_of("TAG");
        out[count++] = server.CreateString(NULL, script->tag, script->tag_length);
    }
    if (script->entry_points.count) {
        snprintf(digits, sizeof(digits), "%d", script->entry_points.count);
        out[count++] = string_of("ENTRY_POINTS");
        out[count++] = string_of(digits);
        for (int i = 0; i < script->entry_points.count; i++) out[count++] = string_of(script->entry_points.items[i]);
    }
    out[count++] = string_of("SOURCE");
    out[count++] = server.CreateString(NULL, blob_data(script->blob), script->blob->length);
    *arguments = out;
    return count;
}

static void reply_meta(RedisModuleCtx *ctx, const Asset *script, int source) {
    server.ReplyWithArray(ctx, source ? 8 : 6);
    server.ReplyWithCString(ctx, "device");
    server.ReplyWithCString(ctx, script->device);
    server.ReplyWithCString(ctx, "tag");
    server.ReplyWithStringBuffer(ctx, script->tag, script->tag_length);
    if (source) {
        server.ReplyWithCString(ctx, "source");
        server.ReplyWithStringBuffer(ctx, blob_data(script->blob), script->blob->length);
    }
    server.ReplyWithCString(ctx, "Entry Points");
    server.ReplyWithArray(ctx, script->entry_points.count);
    for (int i = 0; i < script->entry_points.count; i++) server.ReplyWithCString(ctx, script->entry_points.items[i]);
}

int scriptget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *error;
    int meta = 0, source = 0;
    if (argc < 2 || argc > 4) return server.WrongArity(ctx);
    for (int i = 2; i < argc; i++) {
        meta |= argument_is(argv[i], "META");
        source |= argument_is(argv[i], "SOURCE");
    }
    const Asset *script = asset_find(ctx, argv[1], ASSET_SCRIPT, &error);
    if (!script) return server.ReplyWithError(ctx, error);
    if (source && !meta) return server.ReplyWithStringBuffer(ctx, blob_data(script->blob), script->blob->length);
    reply_meta(ctx, script, source || !meta);
    return API_OK;
}

int scriptdel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return asset_delete(ctx, argv, argc, ASSET_SCRIPT);
}

int scriptscan_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    return asset_scan(ctx, argc, ASSET_SCRIPT);
}
