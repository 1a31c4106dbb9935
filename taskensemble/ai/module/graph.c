/* Graphs: AI.DAGEXECUTE, AI.DAGEXECUTE_RO, and the older AI.DAGRUN, AI.DAGRUN_RO.
 *
 * The whole command is read before anything runs. Names in a graph are not keys: a table maps each to the tensor it stands for at that
 * point, either one that is there (loaded, or set in the graph) or output k of step s. So a name may be written again and every
 * step still reads what stood before it. The table goes when the command is read; what remains is a Request whose steps refer to
 * each other by number, and request.c runs those. Nothing of it is in the keyspace, except what PERSIST names, at the end.
 *
 * A graph without models and scripts is answered at once. */
#include "graph.h"

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "cursor.h"
#include "keys.h"
#include "request.h"
#include "run.h"
#include "tensor_commands.h"

enum { MAX_STEPS = 4096 };

typedef struct GraphKind {
    const char *command;
    int read_only;
    int older; /* MODELRUN and SCRIPTRUN inside */
} GraphKind;

static const GraphKind dagexecute = {"AI.DAGEXECUTE", 0, 0};
static const GraphKind dagexecute_ro = {"AI.DAGEXECUTE_RO", 1, 0};
static const GraphKind dagrun = {"AI.DAGRUN", 0, 1};
static const GraphKind dagrun_ro = {"AI.DAGRUN_RO", 1, 1};

/* ---- The table of names ---- */

typedef struct Name {
    const char *text;
    size_t length;
    Tensor *tensor; /* borrowed, or NULL: output of a step */
    int step;
    int output;
    int persisted;
} Name;

typedef struct Names {
    Name *slots;
    size_t mask;
} Names;

static Name *name_slot(const Names *names, RedisModuleString *string) {
    size_t length;
    const char *text = server.StringPtrLen(string, &length);
    size_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    for (size_t at = hash & names->mask;; at = (at + 1) & names->mask) {
        Name *name = &names->slots[at];
        if (!name->text || (name->length == length && memcmp(name->text, text, length) == 0)) {
            return name;
        }
    }
}

static void name_set(const Names *names, RedisModuleString *string, Tensor *tensor, int step, int output) {
    Name *name = name_slot(names, string);
    size_t length;
    const char *text = server.StringPtrLen(string, &length);
    *name = (Name){text, length, tensor, step, output, 0};
}

/* ---- Reading ---- */

typedef struct Graph {
    RedisModuleCtx *ctx;
    const GraphKind *kind;
    Names names;
    Request *request;
    RedisModuleString **loads;
    int load_count;
    RedisModuleString **persists;
    int persist_count;
    int routing;
    long long timeout;
    char text[256]; /* an error text with parts of the command */
} Graph;

/* The parsers return NULL, or the text of the error reply. */

static const char *missing_arguments(Graph *graph) {
    snprintf(graph->text, sizeof(graph->text), "ERR missing arguments for '%s' command", graph->kind->command);
    return graph->text;
}

static const char *parse_keys(Graph *graph, Cursor *cursor, const char *keyword, RedisModuleString ***keys, int *count) {
    long long given;
    if (cursor->left == 0) return missing_arguments(graph);
    if (!cursor_integer(cursor, 1, &given)) {
        snprintf(graph->text, sizeof(graph->text), "ERR Invalid or negative value found in number of keys to %s", keyword);
        return graph->text;
    }
    if (given > cursor->left) {
        snprintf(graph->text, sizeof(graph->text),
                 "ERR Number of keys to %s in %s command does not match the number of given arguments", keyword,
                 graph->kind->command);
        return graph->text;
    }
    *keys = cursor->argv;
    *count = (int)given;
    cursor->argv += given;
    cursor->left -= (int)given;
    return NULL;
}

/* Each option may be given once. */
static const char *parse_option(Graph *graph, Cursor *cursor) {
    if (!graph->loads && cursor_match(cursor, "LOAD")) return parse_keys(graph, cursor, "LOAD", &graph->loads, &graph->load_count);
    if (!graph->persists && cursor_match(cursor, "PERSIST")) {
        if (graph->kind->read_only) return "ERR PERSIST cannot be specified in a read-only DAG";
        return parse_keys(graph, cursor, "PERSIST", &graph->persists, &graph->persist_count);
    }
    if (!graph->routing && cursor_match(cursor, "ROUTING")) {
        graph->routing = 1;
        return cursor_next(cursor) ? NULL : "ERR No value provided for ROUTING";
    }
    if (!graph->timeout && cursor_match(cursor, "TIMEOUT")) {
        if (cursor->left == 0) return "ERR No value provided for TIMEOUT";
        return cursor_integer(cursor, 1, &graph->timeout) ? NULL : "ERR Invalid value for TIMEOUT";
    }
    snprintf(graph->text, sizeof(graph->text), "ERR Invalid DAG command. Unexpected argument: %.150s",
             server.StringPtrLen(cursor->argv[0], NULL));
    return graph->text;
}

/* Everything before the first arrow. */
static const char *parse_options(Graph *graph, Cursor *cursor) {
    if (cursor->left == 0) return missing_arguments(graph);
    while (cursor->left > 0 && !cursor_sees(cursor, GRAPH_ARROW)) {
        const char *error = parse_option(graph, cursor);
        if (error) return error;
    }
    if (graph->kind->older || graph->load_count || graph->persist_count || graph->routing) return NULL;
    return "ERR AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST parameters";
}

/* Counts the commands behind the arrows; -1 if one of them is empty. */
static int count_steps(Cursor cursor) {
    int steps = 0;
    while (cursor_match(&cursor, GRAPH_ARROW)) {
        if (cursor.left == 0 || cursor_sees(&cursor, GRAPH_ARROW)) return -1;
        while (cursor.left > 0 && !cursor_sees(&cursor, GRAPH_ARROW)) cursor_next(&cursor);
        steps++;
    }
    return steps;
}

static const char *load_tensors(Graph *graph) {
    for (int i = 0; i < graph->load_count; i++) {
        const char *error = NULL;
        Tensor *tensor = tensor_find(graph->ctx, graph->loads[i], &error);
        if (!tensor) return error;
        name_set(&graph->names, graph->loads[i], tensor, -1, 0);
    }
    return NULL;
}

/* Connects an input with what its name stands for now. */
static const char *connect(Graph *graph, RedisModuleString *string, Input *input) {
    const Name *name = name_slot(&graph->names, string);
    if (!name->text) return "ERR INPUT key cannot be found in DAG";
    input->step = name->step;
    input->output = name->output;
    if (name->tensor) input->tensor = tensor_retain(name->tensor);
    return NULL;
}

static const char *read_set(Graph *graph, int index, RedisModuleString **argv, int argc) {
    const char *error = NULL;
    Tensor *tensor = tensorset_parse(argv, argc, 0, &error);
    if (!tensor) return error;
    Step *step = &graph->request->steps[index];
    step->kind = STEP_SET;
    step->state = STEP_DONE;
    step_reserve(step, 0, 1);
    step->outputs[0] = tensor;
    name_set(&graph->names, argv[1], tensor, index, 0);
    return NULL;
}

static const char *read_get(Graph *graph, int index, RedisModuleString **argv, int argc) {
    const char *error = NULL;
    Step *step = &graph->request->steps[index];
    if (argc < 2 || argc > 4) return "ERR wrong number of arguments for 'AI.TENSORGET' command";
    step->kind = STEP_GET;
    if (!tensorget_parse(argv + 2, argc - 2, &step->format, &error)) return error;
    step_reserve(step, 1, 0);
    error = connect(graph, argv[1], &step->inputs[0]);
    if (!error && step->inputs[0].tensor) step->state = STEP_DONE;
    return error;
}

static const char *read_run(Graph *graph, int index, RunCommand command, RedisModuleString **argv, int argc) {
    RunCall call;
    Step *step = &graph->request->steps[index];
    const char *error = run_parse(command, argv, argc, &call);
    if (!error && call.timeout) error = "ERR TIMEOUT not allowed within a DAG command";
    if (!error) error = run_bind(graph->ctx, &call, step);
    for (int i = 0; i < call.input_count && !error; i++) error = connect(graph, run_input(&call, i), &step->inputs[i]);
    if (error) return error;
    for (int i = 0; i < call.output_count; i++) name_set(&graph->names, call.outputs[i], NULL, index, i);
    return NULL;
}

/* Whether a command that runs something may stand in this graph. */
static const char *check_run(Graph *graph, RunCommand command) {
    static const char *const names[] = {[RUN_MODELEXECUTE] = "AI.MODELEXECUTE",
                                        [RUN_MODELRUN] = "AI.MODELRUN",
                                        [RUN_SCRIPTEXECUTE] = "AI.SCRIPTEXECUTE",
                                        [RUN_SCRIPTRUN] = "AI.SCRIPTRUN"};
    int older = command == RUN_MODELRUN || command == RUN_SCRIPTRUN;
    int script = command == RUN_SCRIPTEXECUTE || command == RUN_SCRIPTRUN;
    if (older && !graph->kind->older) {
        snprintf(graph->text, sizeof(graph->text), "Deprecated %s cannot be used in AI.DAGEXECUTE command", names[command]);
        return graph->text;
    }
    if (!older && graph->kind->older) {
        snprintf(graph->text, sizeof(graph->text), "%s cannot be used in a deprecated AI.DAGRUN command", names[command]);
        return graph->text;
    }
    if (script && graph->kind->read_only) {
        snprintf(graph->text, sizeof(graph->text), "ERR %s cannot be specified in a read-only DAG", names[command]);
        return graph->text;
    }
    return NULL;
}

static const char *read_step(Graph *graph, int index, RedisModuleString **argv, int argc) {
    if (argument_is(argv[0], "AI.TENSORSET")) return read_set(graph, index, argv, argc);
    if (argument_is(argv[0], "AI.TENSORGET")) return read_get(graph, index, argv, argc);
    RunCommand command = run_command(argv[0]);
    if (command == RUN_NONE) return "Unsupported command within DAG";
    const char *error = check_run(graph, command);
    return error ? error : read_run(graph, index, command, argv, argc);
}

static const char *read_steps(Graph *graph, Cursor *cursor) {
    for (int index = 0; cursor_match(cursor, GRAPH_ARROW); index++) {
        RedisModuleString **argv = cursor->argv;
        while (cursor->left > 0 && !cursor_sees(cursor, GRAPH_ARROW)) cursor_next(cursor);
        const char *error = read_step(graph, index, argv, (int)(cursor->argv - argv));
        if (error) return error;
    }
    return NULL;
}

static const char *bind_persists(Graph *graph) {
    for (int i = 0; i < graph->persist_count; i++) {
        Name *name = name_slot(&graph->names, graph->persists[i]);
        if (!name->text) return "ERR PERSIST key cannot be found in DAG";
        if (name->persisted) return "ERR PERSIST keys must be unique";
        name->persisted = 1;
        Write *write = &graph->request->writes[i];
        server.RetainString(NULL, graph->persists[i]);
        *write = (Write){.key = graph->persists[i], .step = name->step, .output = name->output};
        if (name->tensor) write->tensor = tensor_retain(name->tensor);
    }
    return NULL;
}

static const char *read_graph(Graph *graph, Cursor cursor) {
    const char *error = parse_options(graph, &cursor);
    if (error) return error;
    int steps = count_steps(cursor);
    if (steps <= 0) return "ERR DAG is empty";
    if (steps > MAX_STEPS) return "ERR too many commands in the DAG";
    graph->request = request_create(REQUEST_GRAPH, steps, graph->persist_count);
    error = load_tensors(graph);
    if (!error) error = read_steps(graph, &cursor);
    if (!error) error = bind_persists(graph);
    return error;
}

/* ---- Running ---- */

static int runs_something(const Request *request) {
    for (int i = 0; i < request->step_count; i++) {
        if (request->steps[i].kind == STEP_RUN) return 1;
    }
    return 0;
}

static Names names_create(int arguments) {
    size_t size = 16;
    while (size < 2 * (size_t)arguments) size *= 2;
    return (Names){.slots = server.Calloc(size, sizeof(Name)), .mask = size - 1};
}

static int graph_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, const GraphKind *kind) {
    if (server.IsKeysPositionRequest(ctx)) return keys_of_graph(ctx, argv, argc);
    if (blocking_refused(ctx)) return API_OK;
    Graph graph = {.ctx = ctx, .kind = kind, .names = names_create(argc)};
    const char *error = read_graph(&graph, (Cursor){argv + 1, argc - 1});
    server.Free(graph.names.slots);
    if (error) {
        if (graph.request) request_release(graph.request);
        return server.ReplyWithError(ctx, error);
    }
    if (runs_something(graph.request)) {
        request_submit(ctx, graph.request, graph.timeout);
    } else {
        request_reply(ctx, graph.request);
        request_release(graph.request);
    }
    return API_OK;
}

int dagexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return graph_command(ctx, argv, argc, &dagexecute);
}

int dagexecute_ro_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return graph_command(ctx, argv, argc, &dagexecute_ro);
}

int dagrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return graph_command(ctx, argv, argc, &dagrun);
}

int dagrun_ro_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return graph_command(ctx, argv, argc, &dagrun_ro);
}
