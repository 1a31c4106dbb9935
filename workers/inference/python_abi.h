/* What quick.c uses of CPython's stable ABI (PEP 384; Py_buffer since 3.11), declared here: the library then needs no header of
 * the Python it is built beside, and one file serves every Python from 3.11 on. */
#ifndef TASKENSEMBLE_PYTHON_ABI_H
#define TASKENSEMBLE_PYTHON_ABI_H

#include <sys/types.h>

typedef struct _object PyObject;

typedef struct PyBuffer {
    void *data;
    PyObject *owner;
    ssize_t length;
    ssize_t item_size;
    int read_only;
    int ndim;
    char *format;
    ssize_t *shape;
    ssize_t *strides;
    ssize_t *suboffsets;
    void *internal;
} PyBuffer;

/* Row-major bytes with shape and element format, writable or not. */
enum { PYBUF_CONTIGUOUS = 0x8 | 0x4 };

extern PyObject *PyExc_Exception;

void Py_IncRef(PyObject *object);
void Py_DecRef(PyObject *object);
PyObject *PyObject_Call(PyObject *callable, PyObject *arguments, PyObject *keywords);
PyObject *PyObject_CallFunctionObjArgs(PyObject *callable, ...);
ssize_t PySequence_Size(PyObject *sequence);
PyObject *PySequence_GetItem(PyObject *sequence, ssize_t index);
int PyObject_GetBuffer(PyObject *exporter, PyBuffer *view, int flags);
void PyBuffer_Release(PyBuffer *view);
PyObject *PyErr_Occurred(void);
int PyErr_ExceptionMatches(PyObject *type);
void PyErr_Clear(void);
int PyErr_CheckSignals(void);
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *state);

#endif
