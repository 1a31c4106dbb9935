/* The bytes that travel between the module and a worker. */
#ifndef TASKENSEMBLE_AI_FRAME_H
#define TASKENSEMBLE_AI_FRAME_H

struct Worker;

typedef enum Where { WHERE_INLINE = 0, WHERE_SHARED = 1, WHERE_ELEMENT = 2, WHERE_REFERENCE = 3 } Where;

enum { TENSOR_HEADER = 24, RESULT_HEADER = 24, RESULTS_HEADER = 16 };

/* Writes the frame of the worker's unit, its elements, and what lies in the worker's segment. */
void frame_write(struct Worker *worker);

#endif
