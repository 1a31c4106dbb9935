/* The server's modules API, as far as this module uses it.
 *
 * Redis and Valkey hand a module one function, GetApi, and everything else is looked up by name: the first pointer of the
 * context that OnLoad receives points to it. So a module needs no header of the server, only the right declarations, and
 * those are here: opaque types, the few structures and constants that cross the border, and one table, API_FUNCTIONS, of
 * which both the structure `server` and the loader in api.c are made.
 *
 * Functions marked OPTIONAL are not in every server this module supports (Redis 6.2 is the oldest); their pointer is NULL
 * there, and the caller has another way. */
#ifndef TASKENSEMBLE_AI_API_H
#define TASKENSEMBLE_AI_API_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef struct RedisModuleCtx RedisModuleCtx;
typedef struct RedisModuleString RedisModuleString;
typedef struct RedisModuleKey RedisModuleKey;
typedef struct RedisModuleIO RedisModuleIO;
typedef struct RedisModuleType RedisModuleType;
typedef struct RedisModuleDigest RedisModuleDigest;
typedef struct RedisModuleBlockedClient RedisModuleBlockedClient;
typedef struct RedisModuleScanCursor RedisModuleScanCursor;
typedef struct RedisModuleInfoCtx RedisModuleInfoCtx;
typedef struct RedisModuleCommand RedisModuleCommand;
typedef uint64_t RedisModuleTimerID;

typedef int (*CommandFunction)(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
typedef void (*FreePrivateData)(RedisModuleCtx *ctx, void *data);
typedef void (*DisconnectFunction)(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc);
typedef void (*TimerFunction)(RedisModuleCtx *ctx, void *data);
typedef void (*ScanFunction)(RedisModuleCtx *ctx, RedisModuleString *name, RedisModuleKey *key, void *data);
typedef void (*InfoFunction)(RedisModuleInfoCtx *ctx, int for_crash_report);

enum { API_OK = 0, API_ERR = 1, API_VERSION_1 = 1 };
enum { KEY_READ = 1 << 0, KEY_WRITE = 1 << 1 };
enum { KEYTYPE_EMPTY = 0, KEYTYPE_MODULE = 6 };

enum {
    CONTEXT_LUA = 1 << 0,
    CONTEXT_MULTI = 1 << 1,
    CONTEXT_REPLICATED = 1 << 12,
    CONTEXT_LOADING = 1 << 13,
    CONTEXT_DENY_BLOCKING = 1 << 21,
};

/* Loading functions return instead of ending the process, and IsIOError tells. */
enum { OPTION_HANDLE_IO_ERRORS = 1 << 0 };

#define LOG_WARNING "warning"
#define LOG_NOTICE "notice"
#define LOG_VERBOSE "verbose"

#define WRONGTYPE "WRONGTYPE Operation against a key holding the wrong kind of value"

/* ---- Server events ---- */
typedef struct RedisModuleEvent {
    uint64_t id;
    uint64_t version;
} RedisModuleEvent;
typedef void (*EventFunction)(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data);

enum { EVENT_CLIENT_CHANGE = 4, EVENT_CRON_LOOP = 8, EVENT_EVENT_LOOP = 15 };
enum { CLIENT_CHANGE_DISCONNECTED = 1, EVENT_LOOP_BEFORE_SLEEP = 0 };

typedef struct ClientInfo {
    uint64_t version;
    uint64_t flags;
    uint64_t id;
    char address[46];
    uint16_t port;
    uint16_t db;
} ClientInfo;

/* ---- Native types ---- */
enum { TYPE_METHODS_VERSION = 3 };
typedef struct TypeMethods {
    uint64_t version;
    void *(*rdb_load)(RedisModuleIO *rdb, int encoding_version);
    void (*rdb_save)(RedisModuleIO *rdb, void *value);
    void (*aof_rewrite)(RedisModuleIO *aof, RedisModuleString *key, void *value);
    size_t (*memory_usage)(const void *value);
    void (*digest)(RedisModuleDigest *digest, void *value);
    void (*free)(void *value);
    int (*aux_load)(RedisModuleIO *rdb, int encoding_version, int when);
    void (*aux_save)(RedisModuleIO *rdb, int when);
    int aux_save_triggers;
    size_t (*free_effort)(RedisModuleString *key, const void *value);
    void (*unlink)(RedisModuleString *key, const void *value);
    void *(*copy)(RedisModuleString *from, RedisModuleString *to, const void *value);
    int (*defrag)(void *ctx, RedisModuleString *key, void **value);
} TypeMethods;

/* ---- Key specifications (SetCommandInfo, Redis 7 and Valkey) ---- */
enum {
    SPEC_READ_ONLY = 1 << 0,
    SPEC_READ_WRITE = 1 << 1,
    SPEC_OVERWRITE = 1 << 2,
    SPEC_REMOVE = 1 << 3,
    SPEC_ACCESS = 1 << 4,
    SPEC_UPDATE = 1 << 5,
    SPEC_INSERT = 1 << 6,
    SPEC_DELETE = 1 << 7,
    SPEC_NOT_KEY = 1 << 8,
    SPEC_INCOMPLETE = 1 << 9,
    SPEC_VARIABLE_FLAGS = 1 << 10,
};
enum { SEARCH_END = 0, SEARCH_UNKNOWN = 1, SEARCH_INDEX = 2, SEARCH_KEYWORD = 3 };
enum { FIND_OMITTED = 0, FIND_UNKNOWN = 1, FIND_RANGE = 2, FIND_COUNT = 3 };

typedef struct KeySpec {
    const char *notes;
    uint64_t flags;
    int search_type;
    union {
        struct {
            int position;
        } index;
        struct {
            const char *keyword;
            int start_from;
        } keyword;
    } search;
    int find_type;
    union {
        struct {
            int last;
            int step;
            int limit;
        } range;
        struct {
            int count_index;
            int first;
            int step;
        } count;
    } find;
} KeySpec;

typedef struct CommandInfoVersion {
    int version;
    size_t sizeof_history;
    size_t sizeof_key_spec;
    size_t sizeof_argument;
} CommandInfoVersion;

typedef struct CommandInfo {
    const CommandInfoVersion *version;
    const char *summary;
    const char *complexity;
    const char *since;
    void *history;
    const char *tips;
    int arity;
    KeySpec *key_specs;
    void *arguments;
} CommandInfo;

/* ---- The functions: X(return type, name, arguments), each needed ---- */
#define API_FUNCTIONS(X) \
    X(void *, Alloc, (size_t bytes)) \
    X(void *, Calloc, (size_t count, size_t size)) \
    X(void *, Realloc, (void *memory, size_t bytes)) \
    X(void, Free, (void *memory)) \
    X(void, SetModuleAttribs, (RedisModuleCtx * ctx, const char *name, int version, int api)) \
    X(int, IsModuleNameBusy, (const char *name)) \
    X(int, CreateCommand, \
      (RedisModuleCtx * ctx, const char *name, CommandFunction function, const char *flags, int first, int last, int step)) \
    X(RedisModuleType *, CreateDataType, (RedisModuleCtx * ctx, const char *name, int encoding, TypeMethods *methods)) \
    X(void, SetModuleOptions, (RedisModuleCtx * ctx, int options)) \
    X(int, WrongArity, (RedisModuleCtx * ctx)) \
    X(int, ReplyWithLongLong, (RedisModuleCtx * ctx, long long value)) \
    X(int, ReplyWithSimpleString, (RedisModuleCtx * ctx, const char *text)) \
    X(int, ReplyWithError, (RedisModuleCtx * ctx, const char *text)) \
    X(int, ReplyWithArray, (RedisModuleCtx * ctx, long length)) \
    X(int, ReplyWithStringBuffer, (RedisModuleCtx * ctx, const char *bytes, size_t length)) \
    X(int, ReplyWithCString, (RedisModuleCtx * ctx, const char *text)) \
    X(int, ReplyWithString, (RedisModuleCtx * ctx, RedisModuleString * text)) \
    X(int, ReplyWithNull, (RedisModuleCtx * ctx)) \
    X(RedisModuleString *, CreateString, (RedisModuleCtx * ctx, const char *bytes, size_t length)) \
    X(void, FreeString, (RedisModuleCtx * ctx, RedisModuleString * string)) \
    X(void, RetainString, (RedisModuleCtx * ctx, RedisModuleString * string)) \
    X(const char *, StringPtrLen, (const RedisModuleString *string, size_t *length)) \
    X(int, StringToLongLong, (const RedisModuleString *string, long long *value)) \
    X(int, StringToDouble, (const RedisModuleString *string, double *value)) \
    X(RedisModuleKey *, OpenKey, (RedisModuleCtx * ctx, RedisModuleString * name, int mode)) \
    X(void, CloseKey, (RedisModuleKey * key)) \
    X(int, KeyType, (RedisModuleKey * key)) \
    X(int, DeleteKey, (RedisModuleKey * key)) \
    X(RedisModuleType *, ModuleTypeGetType, (RedisModuleKey * key)) \
    X(void *, ModuleTypeGetValue, (RedisModuleKey * key)) \
    X(int, ModuleTypeSetValue, (RedisModuleKey * key, RedisModuleType * type, void *value)) \
    X(int, Replicate, (RedisModuleCtx * ctx, const char *command, const char *format, ...)) \
    X(int, ReplicateVerbatim, (RedisModuleCtx * ctx)) \
    X(int, GetSelectedDb, (RedisModuleCtx * ctx)) \
    X(int, SelectDb, (RedisModuleCtx * ctx, int db)) \
    X(int, GetContextFlags, (RedisModuleCtx * ctx)) \
    X(unsigned long long, GetClientId, (RedisModuleCtx * ctx)) \
    X(RedisModuleBlockedClient *, BlockClient, \
      (RedisModuleCtx * ctx, CommandFunction reply, CommandFunction timed_out, FreePrivateData release, long long ms)) \
    X(int, UnblockClient, (RedisModuleBlockedClient * bc, void *data)) \
    X(void, SetDisconnectCallback, (RedisModuleBlockedClient * bc, DisconnectFunction function)) \
    X(void *, GetBlockedClientPrivateData, (RedisModuleCtx * ctx)) \
    X(int, IsKeysPositionRequest, (RedisModuleCtx * ctx)) \
    X(void, KeyAtPos, (RedisModuleCtx * ctx, int position)) \
    X(RedisModuleTimerID, CreateTimer, (RedisModuleCtx * ctx, long long ms, TimerFunction function, void *data)) \
    X(int, StopTimer, (RedisModuleCtx * ctx, RedisModuleTimerID timer, void **data)) \
    X(RedisModuleCtx *, GetDetachedThreadSafeContext, (RedisModuleCtx * ctx)) \
    X(void, Log, (RedisModuleCtx * ctx, const char *level, const char *format, ...)) \
    X(void, LogIOError, (RedisModuleIO * io, const char *level, const char *format, ...)) \
    X(int, IsIOError, (RedisModuleIO * io)) \
    X(void, SaveUnsigned, (RedisModuleIO * io, uint64_t value)) \
    X(uint64_t, LoadUnsigned, (RedisModuleIO * io)) \
    X(void, SaveStringBuffer, (RedisModuleIO * io, const char *bytes, size_t length)) \
    X(RedisModuleString *, LoadString, (RedisModuleIO * io)) \
    X(void, EmitAOF, (RedisModuleIO * io, const char *command, const char *format, ...)) \
    X(void, DigestAddStringBuffer, (RedisModuleDigest * digest, const char *bytes, size_t length)) \
    X(void, DigestAddLongLong, (RedisModuleDigest * digest, long long value)) \
    X(void, DigestEndSequence, (RedisModuleDigest * digest)) \
    X(int, SubscribeToServerEvent, (RedisModuleCtx * ctx, RedisModuleEvent event, EventFunction function)) \
    X(RedisModuleScanCursor *, ScanCursorCreate, (void)) \
    X(void, ScanCursorDestroy, (RedisModuleScanCursor * cursor)) \
    X(int, Scan, (RedisModuleCtx * ctx, RedisModuleScanCursor * cursor, ScanFunction function, void *data)) \
    X(int, RegisterInfoFunc, (RedisModuleCtx * ctx, InfoFunction function)) \
    X(int, InfoAddSection, (RedisModuleInfoCtx * ctx, const char *name)) \
    X(int, InfoAddFieldCString, (RedisModuleInfoCtx * ctx, const char *field, const char *value)) \
    X(int, InfoAddFieldDouble, (RedisModuleInfoCtx * ctx, const char *field, double value)) \
    X(int, InfoAddFieldLongLong, (RedisModuleInfoCtx * ctx, const char *field, long long value))

/* The same for functions that older servers lack. */
#define API_OPTIONAL_FUNCTIONS(X) \
    X(void *, TryAlloc, (size_t bytes)) \
    X(void *, TryCalloc, (size_t count, size_t size)) \
    X(RedisModuleCommand *, GetCommand, (RedisModuleCtx * ctx, const char *name)) \
    X(int, SetCommandInfo, (RedisModuleCommand * command, const CommandInfo *info)) \
    X(int, SetCommandACLCategories, (RedisModuleCommand * command, const char *categories)) \
    X(void, KeyAtPosWithFlags, (RedisModuleCtx * ctx, int position, int flags)) \
    X(size_t, MallocSizeString, (RedisModuleString * string)) \
    X(int, BlockedClientMeasureTimeStart, (RedisModuleBlockedClient * bc)) \
    X(int, BlockedClientMeasureTimeEnd, (RedisModuleBlockedClient * bc)) \
    X(int, AvoidReplicaTraffic, (void))

#define API_DECLARE(type, name, arguments) type(*name) arguments;
typedef struct ServerApi {
    API_FUNCTIONS(API_DECLARE)
    API_OPTIONAL_FUNCTIONS(API_DECLARE)
} ServerApi;
#undef API_DECLARE

extern ServerApi server;

/* A context of this module that is there at any time on the main thread, for timers and log lines. */
extern RedisModuleCtx *module_context;

/* Fills `server` from the context of OnLoad. Returns API_ERR, and names the function on stderr, if the server lacks one. */
int api_load(RedisModuleCtx *ctx);

#endif
