/* Mailboxes: small runs that are answered before their command returns. */
#ifndef TASKENSEMBLE_AI_MAILBOX_H
#define TASKENSEMBLE_AI_MAILBOX_H

#include <stdint.h>

#include "request.h"

struct Worker;

enum { MAILBOX_ROOM = 24 * 1024 };

/* Memory that a worker shares with the server, from offset 0; what the states mean and who sets them: mailbox.c. */
typedef struct Mailbox {
    uint32_t state;
    uint32_t request_length;
    uint32_t response_length;
    char unused[52];
    char request[MAILBOX_ROOM];
    char response[MAILBOX_ROOM];
} Mailbox;

/* Gives the worker a mailbox, if it has none. Returns the descriptor of its memory, or -1. */
int mailbox_open(struct Worker *worker);
void mailbox_close(struct Worker *worker);
/* Runs the only run of a request at once, if a worker listens that is likely to be quick. Returns 1 when the step is done; 0: nothing has
 * happened. */
int mailbox_run(Request *request);

#endif
