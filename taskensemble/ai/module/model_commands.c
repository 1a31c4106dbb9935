/* AI.MODELSTORE, AI.MODELSET, AI.MODELGET, AI.MODELDEL, AI._MODELSCAN.
 *
 * Storing reads the whole command first, then has a worker load the model, and writes the key when that went well. The older
 * AI.MODELSET differs in how INPUTS and OUTPUTS are given: without counts, each list ending at the next keyword. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "cursor.h"
#include "limits.h"
#include "request.h"
#include "sealed.h"

#define NO_BLOB "ERR Insufficient arguments, missing model BLOB"

/* What a store command says, in terms of its own arguments. */
typedef struct ModelCall {
    int repeated; /* by a primary or an append-only file, which add the names that a worker told */
    Backend backend;
    const char *device;
    RedisModuleString *tag;
    long long batch_size;
    long long min_batch_size;
    long long min_batch_timeout;
    RedisModuleString **inputs;
    int input_count;
    RedisModuleString **outputs;
    int output_count;
    RedisModuleString **chunks; /* BLOB */
    int chunk_count;
    int memory; /* MEMORY: an open descriptor, see sealed.h */
    size_t memory_length; /* 0: the bytes are in the chunks */
} ModelCall;

/* The parsers below return NULL, or the text of the error reply. */

static const char *parse_batching(Cursor *cursor, ModelCall *call) {
    if (call->backend == BACKEND_TFLITE && cursor_sees(cursor, "BATCHSIZE")) {
        return "ERR Auto-batching not supported by the TFLITE backend"; /* its models are made for one batch size */
    }
    if (cursor_match(cursor, "BATCHSIZE") && !cursor_integer(cursor, 0, &call->batch_size)) {
        return "ERR Invalid argument for BATCHSIZE";
    }
    if (cursor_match(cursor, "MINBATCHSIZE")) {
        if (call->batch_size == 0) return "ERR MINBATCHSIZE specified without BATCHSIZE";
        if (!cursor_integer(cursor, 0, &call->min_batch_size)) return "ERR Invalid argument for MINBATCHSIZE";
    }
    if (cursor_match(cursor, "MINBATCHTIMEOUT")) {
        if (call->min_batch_size == 0) return "ERR MINBATCHTIMEOUT specified without MINBATCHSIZE";
        if (!cursor_integer(cursor, 0, &call->min_batch_timeout)) return "ERR Invalid argument for MINBATCHTIMEOUT";
    }
    return NULL;
}

static const char *parse_head(Cursor *cursor, ModelCall *call) {
    static const char *const keywords[] = {"TAG",     "BATCHSIZE", "MINBATCHSIZE", "MINBATCHTIMEOUT",
                                           "INPUTS", "OUTPUTS",   "BLOB",         NULL};
    call->backend = backend_parse(server.StringPtrLen(cursor_next(cursor), NULL));
    if (call->backend == BACKEND_NONE) return "ERR unsupported backend";
    call->device = server.StringPtrLen(cursor_next(cursor), NULL);
    const char *error = device_error(call->device, keywords);
    if (error) return error;
    if (!cursor_tag(cursor, &call->tag)) return NO_BLOB;
    return parse_batching(cursor, call);
}

/* pid descriptor digest: where a process of this host, and of this server's user, holds the bytes. */
static const char *parse_memory(Cursor *cursor, ModelCall *call) {
    long long pid, descriptor;
    if (cursor->left != 3 || !cursor_integer(cursor, 1, &pid) || !cursor_integer(cursor, 0, &descriptor)) {
        return "ERR MEMORY takes a process id, a descriptor and the SHA-256 of the model";
    }
    const char *digest = server.StringPtrLen(cursor_next(cursor), NULL);
    call->memory = sealed_open(pid, descriptor, digest, &call->memory_length);
    return call->memory < 0 ? "ERR cannot open this MEMORY: send the model as BLOB" : NULL;
}

static const char *parse_blob(Cursor *cursor, ModelCall *call) {
    if (cursor_match(cursor, "MEMORY")) return parse_memory(cursor, call);
    if (!cursor_match(cursor, "BLOB")) return NO_BLOB;
    if (cursor->left == 0) return NO_BLOB;
    call->chunks = cursor->argv;
    call->chunk_count = cursor->left;
    return NULL;
}

/* INPUTS count name ..., as AI.MODELSTORE has it; a repeated command may say that there are none. */
static const char *parse_counted(Cursor *cursor, int repeated, const char *bad_count, const char *too_few, RedisModuleString ***names,
                                 int *count) {
    long long given;
    if (!cursor_integer(cursor, repeated ? 0 : 1, &given) || given > TEXTS_MAX) return bad_count;
    if (given > cursor->left) return too_few;
    *names = cursor->argv;
    *count = (int)given;
    cursor->argv += given;
    cursor->left -= (int)given;
    return NULL;
}

static const char *parse_counted_names(Cursor *cursor, ModelCall *call) {
    int tensorflow = call->backend == BACKEND_TF;
    if (!tensorflow && !call->repeated && (cursor_sees(cursor, "INPUTS") || cursor_sees(cursor, "OUTPUTS"))) {
        return cursor_sees(cursor, "INPUTS") ? "ERR INPUTS argument should not be specified for this backend"
                                             : "ERR OUTPUTS argument should not be specified for this backend";
    }
    if (!tensorflow && !cursor_sees(cursor, "INPUTS")) return NULL;
    if (cursor->left == 0) return NO_BLOB;
    if (!cursor_match(cursor, "INPUTS")) return "ERR INPUTS not specified for TF";
    const char *error = parse_counted(cursor, call->repeated, "ERR Invalid argument for input_count",
                                      "ERR number of model inputs does not match the number of given arguments", &call->inputs,
                                      &call->input_count);
    if (error) return error;
    if (!cursor_match(cursor, "OUTPUTS")) return "ERR OUTPUTS not specified for TF";
    return parse_counted(cursor, call->repeated, "ERR Invalid argument for output_count",
                         "ERR number of model outputs does not match the number of given arguments", &call->outputs,
                         &call->output_count);
}

/* Names up to the next of two keywords, as AI.MODELSET has them. */
static void parse_list(Cursor *cursor, const char *end, RedisModuleString ***names, int *count) {
    *names = cursor->argv;
    *count = 0;
    while (cursor->left > 0 && !cursor_sees(cursor, end) && !cursor_sees(cursor, "BLOB")) {
        cursor_next(cursor);
        (*count)++;
    }
}

static const char *parse_listed_names(Cursor *cursor, ModelCall *call) {
    int tensorflow = call->backend == BACKEND_TF;
    if (cursor->left == 0) return NO_BLOB;
    if (cursor_match(cursor, "INPUTS")) parse_list(cursor, "OUTPUTS", &call->inputs, &call->input_count);
    if (cursor_match(cursor, "OUTPUTS")) parse_list(cursor, "INPUTS", &call->outputs, &call->output_count);
    if (call->input_count > TEXTS_MAX || call->output_count > TEXTS_MAX) return "ERR Invalid argument for input_count";
    if (tensorflow && call->input_count == 0) return "ERR Insufficient arguments, INPUTS and OUTPUTS not specified";
    if (tensorflow && call->output_count == 0) return "ERR Insufficient arguments, OUTPUTS not specified";
    if (!tensorflow) call->input_count = call->output_count = 0;
    return NULL;
}

static Texts texts_of(RedisModuleString **names, int count) {
    Texts texts = texts_create(count);
    for (int i = 0; i < count; i++) {
        size_t length;
        const char *name = server.StringPtrLen(names[i], &length);
        texts_set(&texts, i, name, length);
    }
    return texts;
}

/* NULL if the memory for the blob is not to be had. */
static Asset *model_of_call(const ModelCall *call) {
    Blob *blob = call->memory_length ? blob_of_memory(call->memory, call->memory_length) : blob_of_chunks(call->chunks, call->chunk_count);
    if (!blob) return NULL;
    Asset *model = asset_create(ASSET_MODEL, call->backend, call->device);
    size_t length = 0;
    const char *tag = call->tag ? server.StringPtrLen(call->tag, &length) : "";
    asset_set_tag(model, tag, length);
    model->blob = blob;
    model->batch_size = call->batch_size;
    model->min_batch_size = call->min_batch_size;
    model->min_batch_timeout = call->min_batch_timeout;
    model->inputs = texts_of(call->inputs, call->input_count);
    model->outputs = texts_of(call->outputs, call->output_count);
    if (call->input_count) model->input_count = call->input_count;
    if (call->output_count) model->output_count = call->output_count;
    return model;
}

typedef const char *(*NamesParser)(Cursor *cursor, ModelCall *call);

static int store(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, NamesParser parse_names) {
    ModelCall call = {.repeated = is_repeated(ctx)};
    Cursor cursor = {argv + 2, argc - 2};
    const char *error = parse_head(&cursor, &call);
    if (!error) error = parse_names(&cursor, &call);
    if (!error) error = parse_blob(&cursor, &call);
    if (error) return server.ReplyWithError(ctx, error);
    Asset *model = model_of_call(&call);
    if (!model) return server.ReplyWithError(ctx, "ERR not enough memory for this model");
    return asset_store(ctx, argv[1], model);
}

int modelstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 6) return server.WrongArity(ctx);
    if (blocking_refused(ctx)) return API_OK;
    return store(ctx, argv, argc, parse_counted_names);
}

int modelset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4) return server.WrongArity(ctx);
    if (blocking_refused(ctx)) return API_OK;
    return store(ctx, argv, argc, parse_listed_names);
}

/* ---- What replicas and append-only files get ---- */

static RedisModuleString *string_of(const char *text) {
    return server.CreateString(NULL, text, strlen(text));
}

static RedisModuleString *string_of_number(int64_t number) {
    char digits[24];
    snprintf(digits, sizeof(digits), "%lld", (long long)number);
    return string_of(digits);
}

static int add_named(RedisModuleString **out, const char *keyword, const Texts *names) {
    int count = 0;
    out[count++] = string_of(keyword);
    out[count++] = string_of_number(names->count);
    for (int i = 0; i < names->count; i++) out[count++] = string_of(names->items[i]);
    return count;
}

/* A blob that came in one piece goes out as it is: most servers have neither replicas nor a file to write a copy to. */
static int add_blob(RedisModuleString **out, const Blob *blob) {
    int count = 0;
    size_t chunk = (size_t)limits.model_chunk_size;
    if (blob->held && blob->length <= chunk) {
        server.RetainString(NULL, blob->held);
        out[count++] = blob->held;
        return count;
    }
    size_t at = 0;
    do {
        size_t length = blob->length - at < chunk ? blob->length - at : chunk;
        out[count++] = server.CreateString(NULL, blob_data(blob) + at, length);
        at += length;
    } while (at < blob->length);
    return count;
}

int model_store_arguments(const Asset *model, RedisModuleString ***arguments) {
    size_t chunks = model->blob->length / (size_t)limits.model_chunk_size + 1;
    size_t room = 16 + chunks + (size_t)model->inputs.count + (size_t)model->outputs.count;
    RedisModuleString **out = server.Alloc(room * sizeof(RedisModuleString *));
    int count = 0;
    out[count++] = string_of(backend_name(model->backend));
    out[count++] = string_of(model->device);
    if (model->tag_length) {
        out[count++] = string_of("TAG");
        out[count++] = server.CreateString(NULL, model->tag, model->tag_length);
    }
    if (model->batch_size) {
        out[count++] = string_of("BATCHSIZE");
        out[count++] = string_of_number(model->batch_size);
    }
    if (model->min_batch_size) {
        out[count++] = string_of("MINBATCHSIZE");
        out[count++] = string_of_number(model->min_batch_size);
    }
    if (model->min_batch_timeout) {
        out[count++] = string_of("MINBATCHTIMEOUT");
        out[count++] = string_of_number(model->min_batch_timeout);
    }
    if (model->inputs.count || model->outputs.count) {
        count += add_named(out + count, "INPUTS", &model->inputs);
        count += add_named(out + count, "OUTPUTS", &model->outputs);
    }
    out[count++] = string_of("BLOB");
    count += add_blob(out + count, model->blob);
    *arguments = out;
    return count;
}

/* ---- Getting, deleting, scanning ---- */

static void reply_names(RedisModuleCtx *ctx, const char *field, const Texts *names) {
    server.ReplyWithCString(ctx, field);
    server.ReplyWithArray(ctx, names->count);
    for (int i = 0; i < names->count; i++) server.ReplyWithCString(ctx, names->items[i]);
}

static void reply_number(RedisModuleCtx *ctx, const char *field, int64_t number) {
    server.ReplyWithCString(ctx, field);
    server.ReplyWithLongLong(ctx, number);
}

/* One string, or an array of chunks where it is longer than a chunk. */
static void reply_blob(RedisModuleCtx *ctx, const Blob *blob) {
    size_t chunk = (size_t)limits.model_chunk_size;
    if (blob->length <= chunk) {
        server.ReplyWithStringBuffer(ctx, blob_data(blob), blob->length);
        return;
    }
    server.ReplyWithArray(ctx, (long)((blob->length + chunk - 1) / chunk));
    for (size_t at = 0; at < blob->length; at += chunk) {
        server.ReplyWithStringBuffer(ctx, blob_data(blob) + at, blob->length - at < chunk ? blob->length - at : chunk);
    }
}

static void reply_meta(RedisModuleCtx *ctx, const Asset *model) {
    server.ReplyWithCString(ctx, "backend");
    server.ReplyWithCString(ctx, backend_name(model->backend));
    server.ReplyWithCString(ctx, "device");
    server.ReplyWithCString(ctx, model->device);
    server.ReplyWithCString(ctx, "tag");
    server.ReplyWithStringBuffer(ctx, model->tag, model->tag_length);
    reply_number(ctx, "batchsize", model->batch_size);
    reply_number(ctx, "minbatchsize", model->min_batch_size);
    reply_names(ctx, "inputs", &model->inputs);
    reply_names(ctx, "outputs", &model->outputs);
    reply_number(ctx, "minbatchtimeout", model->min_batch_timeout);
}

int modelget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *error;
    int meta = 0, blob = 0;
    if (argc < 2 || argc > 4) return server.WrongArity(ctx);
    for (int i = 2; i < argc; i++) {
        meta |= argument_is(argv[i], "META");
        blob |= argument_is(argv[i], "BLOB");
    }
    const Asset *model = asset_find(ctx, argv[1], ASSET_MODEL, &error);
    if (!model) return server.ReplyWithError(ctx, error);
    if (!meta && blob) {
        reply_blob(ctx, model->blob);
        return API_OK;
    }
    if (!meta) blob = 1;
    server.ReplyWithArray(ctx, blob ? 18 : 16);
    reply_meta(ctx, model);
    if (blob) server.ReplyWithCString(ctx, "blob");
    if (blob) reply_blob(ctx, model->blob);
    return API_OK;
}

int modeldel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return asset_delete(ctx, argv, argc, ASSET_MODEL);
}

int modelscan_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    return asset_scan(ctx, argc, ASSET_MODEL);
}
