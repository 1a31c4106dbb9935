/* Keys of commands.
 *
 * Two ways of telling. The commands that run something have lists of keys at no fixed place; the server asks them (getkeys-api),
 * and they read their own arguments and name the positions, with what happens to each key where the server wants to know. On
 * servers with key specifications (Redis 7, Valkey) every command has those too, for clients that read COMMAND. A
 * specification cannot say that a keyword may also be a key's name, so those of the commands with lists are marked
 * incomplete and the server goes on asking. It takes no notice of a specification whose keyword is not there, so those of graphs,
 * which need none of theirs, begin with one that is unknown: without it a graph with ROUTING alone would have no keys. */
#include "keys.h"

#include "commands.h"
#include "cursor.h"
#include "graph.h"

static void report(RedisModuleCtx *ctx, int position, int flags) {
    if (server.KeyAtPosWithFlags) {
        server.KeyAtPosWithFlags(ctx, position, flags);
    } else {
        server.KeyAtPos(ctx, position);
    }
}

static void report_list(RedisModuleCtx *ctx, RedisModuleString **argv, RedisModuleString **list, int count, int flags) {
    for (int i = 0; i < count; i++) report(ctx, (int)(list - argv) + i, flags);
}

int keys_of_run(RedisModuleCtx *ctx, RunCommand command, RedisModuleString **argv, int argc) {
    RunCall call;
    if (argc < 2) return API_OK;
    report(ctx, 1, SPEC_READ_ONLY | SPEC_ACCESS);
    if (run_parse(command, argv, argc, &call)) return API_OK;
    report_list(ctx, argv, call.keys, call.key_count, SPEC_READ_WRITE | SPEC_ACCESS | SPEC_UPDATE);
    for (int i = 0; i < call.input_count; i++) {
        int position = (int)(call.inputs - argv) + (i < call.list_gap ? i : i + 1);
        report(ctx, position, SPEC_READ_ONLY | SPEC_ACCESS);
    }
    report_list(ctx, argv, call.outputs, call.output_count, SPEC_OVERWRITE | SPEC_INSERT);
    return API_OK;
}

/* LOAD n key ... or PERSIST n key ...: reports the keys and steps over them. */
static void report_counted(RedisModuleCtx *ctx, RedisModuleString **argv, Cursor *cursor, int flags) {
    long long count;
    if (!cursor_integer(cursor, 1, &count) || count > cursor->left) return;
    report_list(ctx, argv, cursor->argv, (int)count, flags);
    cursor->argv += count;
    cursor->left -= (int)count;
}

static void report_command(RedisModuleCtx *ctx, RedisModuleString **argv, Cursor *cursor) {
    if (cursor->left < 2) return;
    RunCommand command = run_command(cursor->argv[0]);
    if (command != RUN_NONE) report(ctx, (int)(cursor->argv - argv) + 1, SPEC_READ_ONLY | SPEC_ACCESS);
}

int keys_of_graph(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Cursor cursor = {argv + 1, argc - 1};
    while (cursor.left > 0) {
        if (cursor_match(&cursor, "LOAD")) {
            report_counted(ctx, argv, &cursor, SPEC_READ_ONLY | SPEC_ACCESS);
        } else if (cursor_match(&cursor, "PERSIST")) {
            report_counted(ctx, argv, &cursor, SPEC_OVERWRITE | SPEC_INSERT);
        } else if (cursor_match(&cursor, "ROUTING")) {
            if (cursor.left > 0) report(ctx, (int)(cursor.argv - argv), SPEC_READ_ONLY | SPEC_NOT_KEY);
            cursor_next(&cursor);
        } else if (cursor_match(&cursor, GRAPH_ARROW)) {
            break;
        } else {
            cursor_next(&cursor);
        }
    }
    while (cursor.left > 0) {
        report_command(ctx, argv, &cursor);
        while (cursor.left > 0 && !cursor_match(&cursor, GRAPH_ARROW)) cursor_next(&cursor);
    }
    return API_OK;
}

/* ---- Specifications ---- */

#define FIRST_KEY(spec_flags) \
    { .flags = (spec_flags), .search_type = SEARCH_INDEX, .search.index.position = 1, .find_type = FIND_RANGE, \
      .find.range = {0, 1, 0} }
#define COUNTED_KEYS(word, spec_flags) \
    { .flags = (spec_flags) | SPEC_INCOMPLETE, .search_type = SEARCH_KEYWORD, .search.keyword = {(word), 1}, \
      .find_type = FIND_COUNT, .find.count = {0, 1, 1} }
#define UNKNOWN_KEYS(spec_flags) \
    { .flags = (spec_flags), .search_type = SEARCH_UNKNOWN, .find_type = FIND_UNKNOWN }
#define END_OF_SPECS { .search_type = SEARCH_END }

static KeySpec set_specs[] = {FIRST_KEY(SPEC_OVERWRITE | SPEC_UPDATE), END_OF_SPECS};
static KeySpec get_specs[] = {FIRST_KEY(SPEC_READ_ONLY | SPEC_ACCESS), END_OF_SPECS};
static KeySpec delete_specs[] = {FIRST_KEY(SPEC_REMOVE | SPEC_DELETE), END_OF_SPECS};
static KeySpec run_specs[] = {FIRST_KEY(SPEC_READ_ONLY | SPEC_ACCESS | SPEC_INCOMPLETE), END_OF_SPECS};
static KeySpec execute_specs[] = {FIRST_KEY(SPEC_READ_ONLY | SPEC_ACCESS),
                                  COUNTED_KEYS("KEYS", SPEC_READ_WRITE | SPEC_ACCESS | SPEC_UPDATE),
                                  COUNTED_KEYS("INPUTS", SPEC_READ_ONLY | SPEC_ACCESS),
                                  COUNTED_KEYS("OUTPUTS", SPEC_OVERWRITE | SPEC_INSERT), END_OF_SPECS};
static KeySpec graph_specs[] = {UNKNOWN_KEYS(SPEC_READ_ONLY | SPEC_ACCESS), COUNTED_KEYS("LOAD", SPEC_READ_ONLY | SPEC_ACCESS),
                                COUNTED_KEYS("PERSIST", SPEC_OVERWRITE | SPEC_INSERT), END_OF_SPECS};

void keys_describe(RedisModuleCtx *ctx) {
    static const CommandInfoVersion version = {1, sizeof(void *) * 2, sizeof(KeySpec), 0};
    static const struct {
        const char *name;
        const char *summary;
        KeySpec *specs;
    } commands[] = {
        {"AI.TENSORSET", "Stores a tensor", set_specs},
        {"AI.TENSORGET", "Returns a tensor", get_specs},
        {"AI.MODELSTORE", "Loads a model and stores it", set_specs},
        {"AI.MODELSET", "Loads a model and stores it (older form)", set_specs},
        {"AI.MODELGET", "Returns a model", get_specs},
        {"AI.MODELDEL", "Deletes a model", delete_specs},
        {"AI.MODELEXECUTE", "Runs a model", execute_specs},
        {"AI.MODELRUN", "Runs a model (older form)", run_specs},
        {"AI.SCRIPTSTORE", "Compiles a script and stores it", set_specs},
        {"AI.SCRIPTSET", "Compiles a script and stores it (older form)", set_specs},
        {"AI.SCRIPTGET", "Returns a script", get_specs},
        {"AI.SCRIPTDEL", "Deletes a script", delete_specs},
        {"AI.SCRIPTEXECUTE", "Runs a function of a script", execute_specs},
        {"AI.SCRIPTRUN", "Runs a function of a script (older form)", run_specs},
        {"AI.DAGEXECUTE", "Runs a graph of commands", graph_specs},
        {"AI.DAGEXECUTE_RO", "Runs a graph of commands that writes nothing", graph_specs},
        {"AI.DAGRUN", "Runs a graph of commands (older form)", graph_specs},
        {"AI.DAGRUN_RO", "Runs a graph of commands that writes nothing (older form)", graph_specs},
        {"AI.INFO", "Tells how often and how long a model or script ran", get_specs},
    };
    if (!server.GetCommand || !server.SetCommandInfo) return;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        CommandInfo info = {.version = &version, .summary = commands[i].summary, .since = "1.0.0", .key_specs = commands[i].specs};
        RedisModuleCommand *command = server.GetCommand(ctx, commands[i].name);
        if (!command || server.SetCommandInfo(command, &info) != API_OK) {
            server.Log(ctx, LOG_WARNING, "no key specification for %s", commands[i].name);
        }
    }
}
