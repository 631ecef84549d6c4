/* The fast door's emitter and the packing of rows, compiled.

   Each thing here does what its twin in Python does (emitter.py, event_columns.py, side_texts.py),
   as long as all values are plain: of the types int, float and str themselves, of numpy's float64,
   or None. Whatever else comes is left to the twin, unseen, so no code of the host ever runs in here: no __index__,
   no __float__, no __eq__.

   Why no lock is needed: all of this runs under the interpreter's lock, which is released, and
   given to another thread or a signal handler, only by code of Python's or a collection of garbage.
   From the look at the counter until the row is in the list there is neither: a row takes part in
   no collection, nor do bytes, integers and the list's growth. So an event's sequence is taken, its
   cause compared with it and its row appended in one step. Only then the list may be flushed, and
   only at the end is a handle made, which others can name as a cause: parents stand before their
   children. A clock that is Python's is asked after the sequence is taken, as the twin does it.

   An interpreter without that lock is not built for; it uses the twins. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>
#include <time.h>

#ifdef Py_GIL_DISABLED
#error "the steps below are single ones only under the interpreter's lock"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the spool's numbers are little-endian"
#endif

#define INTERFACE 2 /* compiled_rows.py wants this very one: a checkout may hold an older build */

#define FLAGS_SHIFT 32
#define ABSENT 0x100 /* spool.Flag.ABSENT, of the first slot */
#define FLUSH_EVENTS 512
#define NO_TIME INT64_MIN

#include "_plain_rows.h"

typedef struct {
    PyTypeObject *row_type;
    PyTypeObject *sequences_type;
    PyTypeObject *emitter_type;
} State;

/* -- The emitter ------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *row_type;
    PyObject *sequences;
    PyObject *events; /* a list */
    PyObject *flush;
    PyObject *clock; /* NULL: the system's monotonic one */
    PyObject *twin;  /* takes the events that are not plain */
    PyObject *names; /* a tuple of texts, which the pairs below point into */
    int64_t place;
    int64_t far;
    int fields;
    int many_names;
    Text keys[]; /* as many */
} Emitter;

static int
emitter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Emitter *emitter = (Emitter *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(emitter->row_type);
    Py_VISIT(emitter->sequences);
    Py_VISIT(emitter->events);
    Py_VISIT(emitter->flush);
    Py_VISIT(emitter->clock);
    Py_VISIT(emitter->twin);
    Py_VISIT(emitter->names);
    return 0;
}

/* There is no tp_clear: whatever leads back to an emitter is cleared in its own place, such as the
   cells of its twin, and a half of an emitter must never be called. */
static void
emitter_dealloc(PyObject *self)
{
    Emitter *emitter = (Emitter *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(emitter->row_type);
    Py_XDECREF(emitter->sequences);
    Py_XDECREF(emitter->events);
    Py_XDECREF(emitter->flush);
    Py_XDECREF(emitter->clock);
    Py_XDECREF(emitter->twin);
    Py_XDECREF(emitter->names);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot emitter_slots[] = {
    {Py_tp_doc, "What an emitter's function knows."},
    {Py_tp_dealloc, emitter_dealloc},
    {Py_tp_traverse, emitter_traverse},
    {0, NULL},
};

static PyType_Spec emitter_spec = {
    .name = "fillpath.instrumentation._compiled_rows.Emitter",
    .basicsize = sizeof(Emitter),
    .itemsize = sizeof(Text),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = emitter_slots,
};

static PyObject *
call_twin(Emitter *emitter, PyObject *const *args, Py_ssize_t number, PyObject *keywords)
{
    PyObject *result = NULL, *by_name = NULL;
    PyObject *by_place = PyTuple_New(number);
    if (by_place == NULL) {
        return NULL;
    }
    for (Py_ssize_t place = 0; place < number; place++) {
        Py_INCREF(args[place]);
        PyTuple_SetItem(by_place, place, args[place]);
    }
    if (keywords != NULL) {
        by_name = PyDict_New();
        if (by_name == NULL) {
            goto done;
        }
        Py_ssize_t many = PyTuple_Size(keywords);
        for (Py_ssize_t each = 0; each < many; each++) {
            if (PyDict_SetItem(by_name, PyTuple_GetItem(keywords, each), args[number + each]) < 0) {
                goto done;
            }
        }
    }
    result = PyObject_Call(emitter->twin, by_place, by_name);
done:
    Py_DECREF(by_place);
    Py_XDECREF(by_name);
    return result;
}

static inline int
now(Emitter *emitter, int64_t *nanoseconds)
{
#ifdef CLOCK_MONOTONIC
    if (emitter->clock == NULL) {
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        *nanoseconds = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
        return 0;
    }
#endif
    PyObject *given = PyObject_CallNoArgs(emitter->clock);
    if (given == NULL) {
        return -1;
    }
    *nanoseconds = PyLong_AsLongLong(given);
    Py_DECREF(given);
    return *nanoseconds == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Whether an event's numbers are plain; those that are absent are flagged in its place. */
static inline int
take_numbers(Emitter *emitter, PyObject *const *args, Py_ssize_t given, PlainRow *row)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        row->numbers[slot] = 0.0;
        if (slot >= emitter->fields) {
            continue;
        }
        if (slot >= given || args[slot] == Py_None) {
            row->words[PLACE] |= (int64_t)ABSENT << slot << FLAGS_SHIFT;
        }
        else if (!as_number(args[slot], &row->numbers[slot])) {
            return 0;
        }
    }
    return 1;
}

/* Whether an event's texts are plain; then the row has its side record. */
static int
take_texts(Emitter *emitter, PyObject *const *args, Py_ssize_t given, PlainRow *row)
{
    Text pairs[2 * MAX_PAIRS];
    int many = 0;
    for (int name = 0; name < emitter->many_names; name++) {
        if (name >= given || args[name] == Py_None) {
            continue;
        }
        if (!as_carried_text(args[name], &pairs[2 * many + 1])) {
            return 0;
        }
        pairs[2 * many++] = emitter->keys[name];
    }
    row->side = side_record((uint64_t)row->words[SEQUENCE], pairs, many);
    if (row->side == NULL) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

/* Whether an event's cause is a handle or none, and its trace can take it. */
static inline int
take_cause(Emitter *emitter, PyObject *cause, PlainRow *row, PyObject **root)
{
    int64_t *words = row->words;
    words[PARENT] = 0;
    words[ROOT] = words[SEQUENCE];
    *root = NULL;
    if (cause == Py_None) {
        return 1;
    }
    if (!Py_IS_TYPE(cause, &PyTuple_Type) || PyTuple_Size(cause) != 2) {
        return 0;
    }
    int64_t parent, begun;
    PyObject *given = PyTuple_GetItem(cause, 1);
    if (!as_word(PyTuple_GetItem(cause, 0), &parent) || !as_word(given, &begun)) {
        return 0;
    }
    if (begun <= 0 || begun > parent || parent >= words[SEQUENCE]) {
        return 1; /* somebody made it up */
    }
    words[PARENT] = parent;
    words[ROOT] = begun;
    *root = given;
    return words[SEQUENCE] - begun < emitter->far; /* beyond, its events are counted */
}

static PyObject *
handle_of(int64_t sequence, PyObject *root)
{
    PyObject *first = PyLong_FromLongLong(sequence);
    if (first == NULL) {
        return NULL;
    }
    PyObject *handle = PyTuple_New(2);
    if (handle == NULL) {
        Py_DECREF(first);
        return NULL;
    }
    if (root == NULL) {
        root = first;
    }
    Py_INCREF(root);
    PyTuple_SetItem(handle, 0, first);
    PyTuple_SetItem(handle, 1, root);
    return handle;
}

static PyObject *
emit(PyObject *self, PyObject *const *args, Py_ssize_t number, PyObject *keywords)
{
    Emitter *emitter = (Emitter *)self;
    PyObject *root;
    PyObject *event_time = number > 0 ? args[0] : NULL;
    PyObject *cause = number > 1 ? args[1] : Py_None;
    PyObject *start = Py_None;
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_Size(keywords);
    for (Py_ssize_t each = 0; each < named; each++) {
        PyObject *name = PyTuple_GetItem(keywords, each);
        if (PyUnicode_CompareWithASCIIString(name, "start") == 0) {
            start = args[number + each];
        }
        else if (number < 2 && PyUnicode_CompareWithASCIIString(name, "cause") == 0) {
            cause = args[number + each];
        }
        else if (number < 1 && PyUnicode_CompareWithASCIIString(name, "event_time") == 0) {
            event_time = args[number + each];
        }
        else {
            return call_twin(emitter, args, number, keywords);
        }
    }
    if (number > 2 + emitter->fields + emitter->many_names) {
        return call_twin(emitter, args, number, keywords); /* which says so */
    }
    PlainRow *row = PyObject_New(PlainRow, (PyTypeObject *)emitter->row_type);
    if (row == NULL) {
        return NULL;
    }
    Sequences *sequences = (Sequences *)emitter->sequences;
    int64_t *words = row->words;
    row->side = NULL;
    words[SEQUENCE] = sequences->last + 1;
    words[PLACE] = emitter->place;
    words[EVENT_TIME] = NO_TIME;
    Py_ssize_t given = number - 2;
    if ((event_time != NULL && !as_word(event_time, &words[EVENT_TIME])) ||
        (start != Py_None && (!as_word(start, &words[START]) || words[START] == NO_TIME)) ||
        !take_cause(emitter, cause, row, &root) ||
        !take_numbers(emitter, args + 2, given, row) ||
        (emitter->many_names &&
         !take_texts(emitter, args + 2 + emitter->fields, given - emitter->fields, row))) {
        Py_DECREF(row);
        return call_twin(emitter, args, number, keywords);
    }
    int64_t sequence = sequences->last = words[SEQUENCE];
    if (now(emitter, &words[END]) < 0) {
        Py_DECREF(row);
        return NULL;
    }
    if (start == Py_None) {
        words[START] = words[END];
    }
    int failed = PyList_Append(emitter->events, (PyObject *)row);
    Py_DECREF(row);
    if (failed) {
        return NULL;
    }
    if (!(sequence & (FLUSH_EVENTS - 1))) {
        PyObject *nothing = PyObject_CallNoArgs(emitter->flush);
        if (nothing == NULL) {
            return NULL;
        }
        Py_DECREF(nothing);
    }
    return handle_of(sequence, root);
}

static PyMethodDef emit_definition = {
    "emit",
    (PyCFunction)(void (*)(void))emit,
    METH_FASTCALL | METH_KEYWORDS,
    "emit($self, /, event_time=-9223372036854775808, cause=None, *values, start=None)\n--\n\n"
    "Record an event that has just ended; see `fillpath.instrumentation.emitter.Emitter`.",
};

static PyObject *
emitter(PyObject *module, PyObject *args)
{
    State *state = PyModule_GetState(module);
    PyObject *events, *flush, *sequences, *clock, *twin, *names;
    long long place, far;
    int fields;
    if (!PyArg_ParseTuple(args, "O!OO!OOLiO!L", &PyList_Type, &events, &flush,
                          state->sequences_type, &sequences, &clock, &twin, &place, &fields,
                          &PyTuple_Type, &names, &far)) {
        return NULL;
    }
    Py_ssize_t many = PyTuple_Size(names);
    if (fields < 0 || fields > SLOTS || many > MAX_PAIRS) {
        PyErr_SetString(PyExc_ValueError, "more fields or names than a row has room for");
        return NULL;
    }
#ifndef CLOCK_MONOTONIC
    if (clock == Py_None) {
        PyErr_SetString(PyExc_ValueError, "there is no monotonic clock here");
        return NULL;
    }
#endif
    Emitter *made = PyObject_GC_NewVar(Emitter, state->emitter_type, many);
    if (made == NULL) {
        return NULL;
    }
    made->row_type = (PyObject *)state->row_type;
    made->sequences = sequences;
    made->events = events;
    made->flush = flush;
    made->clock = clock == Py_None ? NULL : clock;
    made->twin = twin;
    made->names = names;
    made->place = place;
    made->far = far;
    made->fields = fields;
    made->many_names = (int)many;
    Py_INCREF(made->row_type);
    Py_INCREF(sequences);
    Py_INCREF(events);
    Py_INCREF(flush);
    Py_XINCREF(made->clock);
    Py_INCREF(twin);
    Py_INCREF(names);
    PyObject_GC_Track((PyObject *)made);
    for (Py_ssize_t name = 0; name < many; name++) {
        if (!as_text(PyTuple_GetItem(names, name), &made->keys[name])) {
            Py_DECREF(made);
            PyErr_SetString(PyExc_ValueError, "a name is no text that can be carried");
            return NULL;
        }
    }
    PyObject *function = PyCFunction_NewEx(&emit_definition, (PyObject *)made, NULL);
    Py_DECREF(made);
    return function;
}

/* -- Packing ----------------------------------------------------------------------------------- */

/* Whether a tuple's values are plain; then they are in the row, which owns its side record. */
static int
take_tuple(PyObject *tuple, int slots, PlainRow *row)
{
    row->side = NULL;
    for (int word = 0; word < WORDS; word++) {
        PyObject *value = PyTuple_GetItem(tuple, word);
        int is_time = word == START || word == END || word == EVENT_TIME;
        if (!(is_time ? as_word(value, &row->words[word])
                      : as_unsigned(value, (uint64_t *)&row->words[word]))) {
            return 0;
        }
    }
    for (int slot = 0; slot < slots; slot++) {
        if (!as_number(PyTuple_GetItem(tuple, WORDS + slot), &row->numbers[slot])) {
            return 0;
        }
    }
    PyObject *side = PyTuple_GetItem(tuple, SIDE_PLACE);
    if (side == Py_None) {
        return 1;
    }
    if (Py_IS_TYPE(side, &PyBytes_Type)) {
        if (PyBytes_Size(side)) {
            Py_INCREF(side);
            row->side = side;
        }
        return 1;
    }
    if (!Py_IS_TYPE(side, &PyDict_Type)) {
        return 0;
    }
    if (PyDict_Size(side)) {
        row->side = side_record_of((uint64_t)row->words[SEQUENCE], side);
        return row->side != NULL;
    }
    return 1;
}

static PyObject *
pack_rows(PyObject *module, PyObject *args)
{
    State *state = PyModule_GetState(module);
    PyObject *rows, *payload = NULL, *sides = NULL;
    int slots;
    if (!PyArg_ParseTuple(args, "O!i", &PyList_Type, &rows, &slots)) {
        return NULL;
    }
    if (slots < 0 || slots > SLOTS) {
        PyErr_SetString(PyExc_ValueError, "a row has not so many numbers");
        return NULL;
    }
    sides = PyList_New(0);
    Py_ssize_t many = PyList_Size(rows);
    payload = PyBytes_FromStringAndSize(NULL, many * (WORDS + slots) * 8);
    if (sides == NULL || payload == NULL) {
        goto failed;
    }
    char *columns = PyBytes_AsString(payload);
    for (Py_ssize_t place = 0; place < many; place++) {
        PyObject *given = PyList_GetItem(rows, place);
        PlainRow taken, *row = (PlainRow *)given;
        if (!Py_IS_TYPE(given, state->row_type)) {
            row = &taken;
            if (!Py_IS_TYPE(given, &PyTuple_Type) || PyTuple_Size(given) != ROW_SIZE ||
                !take_tuple(given, slots, row)) {
                if (PyErr_Occurred()) {
                    goto failed;
                }
                Py_DECREF(payload);
                Py_DECREF(sides);
                Py_INCREF(Py_None);
                return Py_None;
            }
        }
        char *at = columns + 8 * place;
        for (int word = 0; word < WORDS; word++, at += 8 * many) {
            memcpy(at, &row->words[word], 8);
        }
        for (int slot = 0; slot < slots; slot++, at += 8 * many) {
            memcpy(at, &row->numbers[slot], 8);
        }
        if (row->side != NULL) {
            int has_failed = PyList_Append(sides, row->side);
            if (row == &taken) {
                Py_DECREF(row->side);
            }
            if (has_failed) {
                goto failed;
            }
        }
    }
    return Py_BuildValue("(NN)", payload, sides);
failed:
    Py_XDECREF(payload);
    Py_XDECREF(sides);
    return NULL;
}

static PyObject *
take_as_float(PyObject *module, PyObject *type)
{
    (void)module;
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &PyFloat_Type)) {
        PyErr_SetString(PyExc_ValueError, "this is no type of floats");
        return NULL;
    }
    Py_INCREF(type); /* for ever, and what it replaces stays: a row may be on its way */
    numpy_float = (PyTypeObject *)type;
    Py_INCREF(Py_None);
    return Py_None;
}

/* -- The module -------------------------------------------------------------------------------- */

static PyMethodDef module_methods[] = {
    {"emitter", emitter, METH_VARARGS, "Make an emitter's function; see `emitter.make_emitter`."},
    {"pack_rows", pack_rows, METH_VARARGS,
     "Pack rows as `event_columns.pack_rows` does; None if some value is not plain."},
    {"take_as_float", take_as_float, METH_O, "Take numbers of this type for floats, as they are."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *
added_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return type != NULL && PyModule_AddType(module, type) < 0 ? (Py_DECREF(type), NULL) : type;
}

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->row_type = added_type(module, &row_spec);
    state->sequences_type = added_type(module, &sequences_spec);
    state->emitter_type = added_type(module, &emitter_spec);
    if (!state->row_type || !state->sequences_type || !state->emitter_type) {
        return -1;
    }
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->row_type);
    Py_VISIT(state->sequences_type);
    Py_VISIT(state->emitter_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->row_type);
    Py_CLEAR(state->sequences_type);
    Py_CLEAR(state->emitter_type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_compiled_rows",
    .m_doc = "The fast door's emitter and the packing of rows, compiled.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__compiled_rows(void)
{
    return PyModuleDef_Init(&module_definition);
}
