/* Graphs: AI.DAGEXECUTE and its relatives. */
#ifndef TASKENSEMBLE_AI_GRAPH_H
#define TASKENSEMBLE_AI_GRAPH_H

#define GRAPH_ARROW "|>"

#endif
