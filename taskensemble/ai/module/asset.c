/* Models and scripts in memory.
 *
 * A key's value is an Asset. Jobs hold references to it as well, so a model may be deleted, replaced or flushed while runs of
 * it wait or are on their way: they finish with what they started with. Every store makes a new asset with a new version, the
 * number under which inference workers know it; `loaded` has a bit for each worker slot that was sent it. When the last
 * reference goes, those workers are told to forget the version (workers_forget).
 *
 * All of this belongs to the main thread, without locks; a value that the server frees on another thread is left to it (later.h).
 *
 * The bytes are held once, in a Blob, which is the client's own argument where it came in one piece. */
#include "asset.h"

#include <string.h>

#include "bytes.h"
#include "later.h"
#include "queue.h"
#include "sealed.h"
#include "worker.h"

static Asset *all_assets;
static uint64_t last_version;

Asset *asset_create(AssetKind kind, Backend backend, const char *device) {
    Asset *asset = server.Calloc(1, sizeof(Asset));
    asset->references = 1;
    asset->kind = kind;
    asset->version = ++last_version;
    asset->backend = backend;
    strncpy(asset->device, device, DEVICE_TEXT_MAX);
    asset->input_count = -1;
    asset->output_count = -1;
    asset->next = all_assets;
    if (all_assets) all_assets->previous = asset;
    all_assets = asset;
    return asset;
}

Asset *asset_retain(Asset *asset) {
    asset->references++;
    return asset;
}

static void asset_free(Asset *asset) {
    workers_forget(asset);
    queue_forget(asset);
    if (asset->previous) asset->previous->next = asset->next;
    if (asset->next) asset->next->previous = asset->previous;
    if (all_assets == asset) all_assets = asset->next;
    if (asset->tag) server.Free(asset->tag);
    if (asset->blob) blob_release(asset->blob);
    texts_free(&asset->inputs);
    texts_free(&asset->outputs);
    texts_free(&asset->entry_points);
    server.Free(asset);
}

void asset_release(Asset *asset) {
    if (--asset->references == 0) asset_free(asset);
}

static void release_value(void *value) {
    asset_release(value);
}

void asset_release_anywhere(void *value) {
    later(release_value, value);
}

Asset *asset_first(void) {
    return all_assets;
}

Asset *asset_copy(const Asset *asset) {
    Asset *copy = asset_create(asset->kind, asset->backend, asset->device);
    asset_set_tag(copy, asset->tag, asset->tag_length);
    copy->blob = asset->blob;
    copy->blob->references++;
    copy->batch_size = asset->batch_size;
    copy->min_batch_size = asset->min_batch_size;
    copy->min_batch_timeout = asset->min_batch_timeout;
    copy->inputs = texts_copy(&asset->inputs);
    copy->outputs = texts_copy(&asset->outputs);
    copy->input_count = asset->input_count;
    copy->output_count = asset->output_count;
    copy->entry_points = texts_copy(&asset->entry_points);
    return copy;
}

static size_t texts_memory(const Texts *texts) {
    size_t size = (size_t)texts->count * sizeof(char *);
    for (int i = 0; i < texts->count; i++) size += strlen(texts->items[i]) + 1;
    return size;
}

size_t asset_memory_usage(const Asset *asset) {
    return sizeof(Asset) + sizeof(Blob) + asset->blob->length + asset->tag_length + texts_memory(&asset->inputs) +
           texts_memory(&asset->outputs) + texts_memory(&asset->entry_points);
}

void asset_reset_statistics(Asset *asset) {
    asset->calls = asset->samples = asset->errors = asset->duration_us = 0;
    asset->figures = (Figures){0};
}

void asset_set_tag(Asset *asset, const char *tag, size_t length) {
    asset->tag = server.Alloc(length + 1);
    if (length) memcpy(asset->tag, tag, length);
    asset->tag[length] = 0;
    asset->tag_length = length;
}

/* ---- Blobs ---- */

Blob *blob_of_argument(RedisModuleString *argument) {
    Blob *blob = server.Alloc(sizeof(*blob));
    server.RetainString(NULL, argument);
    *blob = (Blob){.references = 1, .held = argument, .memory = -1};
    server.StringPtrLen(argument, &blob->length);
    return blob;
}

Blob *blob_of_memory(int memory, size_t length) {
    RedisModuleString *held = sealed_copy(memory, length);
    if (!held) {
        sealed_close(memory, length);
        return NULL;
    }
    Blob *blob = blob_of_argument(held);
    server.FreeString(NULL, held);
    blob->memory = memory;
    return blob;
}

Blob *blob_of_chunks(RedisModuleString **chunks, int count) {
    if (count == 1) return blob_of_argument(chunks[0]);
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        size_t length;
        server.StringPtrLen(chunks[i], &length);
        total += length;
    }
    size_t size = sizeof(Blob) + total;
    Blob *blob = server.TryAlloc ? server.TryAlloc(size) : server.Alloc(size);
    if (!blob) return NULL;
    char *at = (char *)(blob + 1);
    *blob = (Blob){.references = 1, .length = total, .memory = -1};
    for (int i = 0; i < count; i++) {
        size_t length;
        const char *data = server.StringPtrLen(chunks[i], &length);
        memcpy(at, data, length);
        at += length;
    }
    return blob;
}

const char *blob_data(const Blob *blob) {
    return blob->held ? server.StringPtrLen(blob->held, NULL) : (const char *)(blob + 1);
}

static void memory_close(Blob *blob) {
    if (blob->memory >= 0) sealed_close(blob->memory, blob->length);
    blob->memory = -1;
}

int blob_memory(Blob *blob) {
    if (blob->memory < 0) blob->memory = sealed_create(blob_data(blob), blob->length);
    return blob->memory;
}

void blob_loading(Blob *blob) {
    blob->loads++;
}

void blob_loaded(Blob *blob) {
    if (--blob->loads == 0) memory_close(blob);
}

void blob_release(Blob *blob) {
    if (--blob->references > 0) return;
    memory_close(blob);
    if (blob->held) server.FreeString(NULL, blob->held);
    server.Free(blob);
}

/* ---- Texts ---- */

Texts texts_create(int count) {
    Texts texts = {.count = count};
    if (count) texts.items = server.Calloc((size_t)count, sizeof(char *));
    for (int i = 0; i < count; i++) texts_set(&texts, i, "", 0);
    return texts;
}

void texts_set(Texts *texts, int index, const char *data, size_t length) {
    if (texts->items[index]) server.Free(texts->items[index]);
    char *copy = server.Alloc(length + 1);
    if (length) memcpy(copy, data, length);
    copy[length] = 0;
    texts->items[index] = copy;
}

Texts texts_copy(const Texts *texts) {
    Texts copy = texts_create(texts->count);
    for (int i = 0; i < texts->count; i++) texts_set(&copy, i, texts->items[i], strlen(texts->items[i]));
    return copy;
}

void texts_free(Texts *texts) {
    for (int i = 0; i < texts->count; i++) server.Free(texts->items[i]);
    if (texts->items) server.Free(texts->items);
    *texts = (Texts){0};
}

int texts_contain(const Texts *texts, const char *text) {
    for (int i = 0; i < texts->count; i++) {
        if (strcmp(texts->items[i], text) == 0) return 1;
    }
    return 0;
}

/* ---- What models and scripts have in common in RDB files ---- */

uint64_t load_limited(RedisModuleIO *rdb, uint64_t limit, int *failed) {
    if (*failed) return 0;
    uint64_t value = server.LoadUnsigned(rdb);
    if (server.IsIOError(rdb) || value > limit) {
        *failed = 1;
        return 0;
    }
    return value;
}

void texts_save(RedisModuleIO *rdb, const Texts *texts) {
    server.SaveUnsigned(rdb, (uint64_t)texts->count);
    for (int i = 0; i < texts->count; i++) server.SaveStringBuffer(rdb, texts->items[i], strlen(texts->items[i]));
}

/* Reads one string; NULL and nothing to free if it is not there. */
static RedisModuleString *load_string(RedisModuleIO *rdb) {
    RedisModuleString *string = server.LoadString(rdb);
    if (string && server.IsIOError(rdb)) {
        server.FreeString(NULL, string);
        return NULL;
    }
    return string;
}

int texts_load(RedisModuleIO *rdb, Texts *texts) {
    int failed = 0;
    int count = (int)load_limited(rdb, TEXTS_MAX, &failed);
    if (failed) return 0;
    *texts = texts_create(count);
    for (int i = 0; i < count; i++) {
        RedisModuleString *string = load_string(rdb);
        if (!string) return 0;
        size_t length;
        const char *data = server.StringPtrLen(string, &length);
        texts_set(texts, i, data, length);
        server.FreeString(NULL, string);
    }
    return 1;
}

static uint64_t texts_checksum(const Texts *texts, uint64_t sum) {
    for (int i = 0; i < texts->count; i++) sum = checksum(texts->items[i], strlen(texts->items[i]) + 1, sum);
    return sum;
}

uint64_t asset_checksum(const Asset *asset) {
    int64_t numbers[] = {asset->kind,           asset->backend,           asset->batch_size,
                         asset->min_batch_size, asset->min_batch_timeout, asset->input_count,
                         asset->output_count};
    uint64_t sum = checksum(numbers, sizeof(numbers), 1);
    sum = checksum(asset->device, strlen(asset->device), sum);
    sum = checksum(asset->tag, asset->tag_length, sum);
    sum = texts_checksum(&asset->inputs, sum);
    sum = texts_checksum(&asset->outputs, sum);
    sum = texts_checksum(&asset->entry_points, sum);
    return checksum(blob_data(asset->blob), asset->blob->length, sum);
}

void asset_save_common(RedisModuleIO *rdb, const Asset *asset) {
    server.SaveUnsigned(rdb, asset->backend);
    server.SaveStringBuffer(rdb, asset->device, strlen(asset->device));
    server.SaveStringBuffer(rdb, asset->tag, asset->tag_length);
    server.SaveStringBuffer(rdb, blob_data(asset->blob), asset->blob->length);
}

Asset *asset_load_common(RedisModuleIO *rdb, AssetKind kind) {
    int failed = 0;
    Backend backend = (Backend)load_limited(rdb, BACKENDS - 1, &failed);
    RedisModuleString *device = failed ? NULL : load_string(rdb);
    RedisModuleString *tag = device ? load_string(rdb) : NULL;
    RedisModuleString *blob = tag ? load_string(rdb) : NULL;
    Asset *asset = NULL;
    Device parsed;
    if (blob && backend != BACKEND_NONE && device_parse(server.StringPtrLen(device, NULL), &parsed)) {
        asset = asset_create(kind, backend, server.StringPtrLen(device, NULL));
        size_t length;
        const char *text = server.StringPtrLen(tag, &length);
        asset_set_tag(asset, text, length);
        asset->blob = blob_of_argument(blob);
    }
    if (device) server.FreeString(NULL, device);
    if (tag) server.FreeString(NULL, tag);
    if (blob) server.FreeString(NULL, blob);
    return asset;
}

void asset_digest(RedisModuleDigest *digest, void *value) {
    const Asset *asset = value;
    server.DigestAddLongLong(digest, (long long)asset_checksum(asset));
    server.DigestAddStringBuffer(digest, blob_data(asset->blob), asset->blob->length);
    server.DigestEndSequence(digest);
}
