/* Mailboxes: small runs that are answered before their command returns. */
#ifndef TASKENSEMBLE_AI_MAILBOX_H
#define TASKENSEMBLE_AI_MAILBOX_H

#include "mailbox_memory.h"
#include "request.h"

struct Worker;

/* Gives the worker a mailbox, if it has none. Returns the descriptor of its memory, or -1. */
int mailbox_open(struct Worker *worker);
void mailbox_close(struct Worker *worker);
/* Runs the only run of a request at once, if a worker listens that is likely to be quick. Returns 1 when the step is done; 0: nothing has
 * happened. */
int mailbox_run(Request *request);

#endif
