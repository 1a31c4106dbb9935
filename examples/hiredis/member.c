/* A member in C: a tensor into the database, a model over it there, and the model's answer back.
 *
 * Nothing but hiredis: the database speaks the Redis protocol, and the AI commands are in the manual. The environment says
 * where the database is (SSDB: host:port, or unix://path) and which prefix this member's keys carry (SSKEYOUT; none: no prefix).
 *
 * usage: member -x <x> -y <y>
 */
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Connect to the first address of SSDB. The caller frees the connection. */
static redisContext *connect_database(void) {
    const char *address = getenv("SSDB");
    if (address == NULL) fail("SSDB", "not set; start this program as a member of an ensemble with a database");
    char first[256];
    snprintf(first, sizeof first, "%s", address);
    first[strcspn(first, ",")] = '\0';
    redisContext *database;
    char *colon;
    if (strncmp(first, "unix://", 7) == 0) {
        database = redisConnectUnix(first + 7);
    } else {
        if ((colon = strrchr(first, ':')) == NULL) fail("SSDB", first);
        *colon = '\0';
        database = redisConnect(first, atoi(colon + 1));
    }
    if (database == NULL || database->err) fail(address, database ? database->errstr : "no memory");
    return database;
}

/* Send one command and return its reply, which the caller frees. An error reply ends the program. */
static redisReply *ask(redisContext *database, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(database, format, arguments);
    va_end(arguments);
    if (reply == NULL) fail("database", database->errstr);
    if (reply->type == REDIS_REPLY_ERROR) fail("database", reply->str);
    return reply;
}

int main(int argc, char **argv) {
    if (argc != 5 || strcmp(argv[1], "-x") != 0 || strcmp(argv[3], "-y") != 0) fail("usage", "member -x <x> -y <y>");
    float point[2] = {strtof(argv[2], NULL), strtof(argv[4], NULL)};
    const char *prefix = getenv("SSKEYOUT");
    char input[160], output[160];
    snprintf(input, sizeof input, "%s%spoint", prefix ? prefix : "", prefix ? "." : "");
    snprintf(output, sizeof output, "%s%sheight", prefix ? prefix : "", prefix ? "." : "");

    /* --8<-- [start:ask] */
    redisContext *database = connect_database();
    freeReplyObject(ask(database, "AI.TENSORSET %s FLOAT 1 2 BLOB %b", input, (const char *)point, sizeof point));
    freeReplyObject(ask(database, "AI.MODELEXECUTE hill INPUTS 1 %s OUTPUTS 1 %s", input, output));
    redisReply *reply = ask(database, "AI.TENSORGET %s BLOB", output);
    float height;
    if (reply->type != REDIS_REPLY_STRING || reply->len != sizeof height) fail(output, "not one FLOAT");
    memcpy(&height, reply->str, sizeof height);
    /* --8<-- [end:ask] */
    freeReplyObject(reply);
    redisFree(database);

    FILE *result = fopen("result.json", "w");
    if (result == NULL) fail("result.json", "cannot be written");
    fprintf(result, "{\"height\": %.7g}\n", height);
    fclose(result);
    return 0;
}
