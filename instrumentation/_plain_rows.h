/* The row of an event whose values are all plain, and the counter of sequences: two types of
   Python's that compiled recording works on from the inside. Included once, by _compiled_rows.c. */

#include "_plain_values.h"

enum { SEQUENCE, PARENT, ROOT, START, END, EVENT_TIME, PLACE, WORDS }; /* spool.COLUMNS */
#define SLOTS 5                                                        /* spool.SLOTS */
#define SIDE_PLACE (WORDS + SLOTS)
#define ROW_SIZE (SIDE_PLACE + 1)

/* -- Rows -------------------------------------------------------------------------------------- */

/* A row that has nothing but plain values, as they will stand in the spool. To Python it looks like
   the tuple that the twin would have made: by item, slice and iteration. */
typedef struct {
    PyObject_HEAD
    int64_t words[WORDS];
    double numbers[SLOTS];
    PyObject *side; /* bytes, or NULL */
} PlainRow;

static void
row_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((PlainRow *)self)->side);
    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_ssize_t
row_length(PyObject *self)
{
    (void)self;
    return ROW_SIZE;
}

static PyObject *
row_item(PyObject *self, Py_ssize_t place)
{
    PlainRow *row = (PlainRow *)self;
    if (place >= 0 && place < WORDS) {
        return PyLong_FromLongLong(row->words[place]);
    }
    if (place >= WORDS && place < SIDE_PLACE) {
        return PyFloat_FromDouble(row->numbers[place - WORDS]);
    }
    if (place == SIDE_PLACE) {
        PyObject *side = row->side == NULL ? Py_None : row->side;
        Py_INCREF(side);
        return side;
    }
    PyErr_SetString(PyExc_IndexError, "a row has no such place");
    return NULL;
}

static PyObject *
row_subscript(PyObject *self, PyObject *key)
{
    int64_t place;
    if (as_word(key, &place)) {
        place += place < 0 ? ROW_SIZE : 0;
        return row_item(self, place < 0 || place > SIDE_PLACE ? ROW_SIZE : (Py_ssize_t)place);
    }
    PyObject *whole = PySequence_Tuple(self);
    if (whole == NULL) {
        return NULL;
    }
    PyObject *found = PyObject_GetItem(whole, key);
    Py_DECREF(whole);
    return found;
}

static PyType_Slot row_slots[] = {
    {Py_tp_doc, "A row whose values are all plain; it looks like a tuple of them."},
    {Py_tp_dealloc, row_dealloc},
    {Py_sq_length, row_length},
    {Py_sq_item, row_item},
    {Py_mp_length, row_length},
    {Py_mp_subscript, row_subscript},
    {0, NULL},
};

static PyType_Spec row_spec = {
    .name = "fillpath.instrumentation._compiled_rows.PlainRow",
    .basicsize = sizeof(PlainRow),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = row_slots,
};

/* -- Sequences --------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    int64_t last;
} Sequences;

static PyObject *
sequences_take(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLongLong(++((Sequences *)self)->last);
}

static void
sequences_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef sequences_methods[] = {
    {"take", sequences_take, METH_NOARGS, "Give the next sequence; the first is 1."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sequences_slots[] = {
    {Py_tp_doc, "Counts the events of a run, in steps that threads cannot come between."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, sequences_dealloc},
    {Py_tp_methods, sequences_methods},
    {0, NULL},
};

static PyType_Spec sequences_spec = {
    .name = "fillpath.instrumentation._compiled_rows.Sequences",
    .basicsize = sizeof(Sequences),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sequences_slots,
};
