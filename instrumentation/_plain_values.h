/* What compiled recording takes of values, and the side records it makes of texts.

   A value is plain if its type is int, float or str itself, or it is None; so is a number of numpy's
   float64, which is a float. Nothing else is looked into, so no code of the host runs here.
   Included once, by _plain_rows.h. */

#define MAX_EXACT ((int64_t)1 << 53) /* spool.MAX_EXACT */
#define MAX_TEXT 16384               /* payload.MAX_TEXT */
#define MAX_PAIRS 32                 /* of key and text, in one side record made here */

/* -- Values ------------------------------------------------------------------------------------ */

static inline int
as_word(PyObject *value, int64_t *word)
{
    int overflow;
    if (!Py_IS_TYPE(value, &PyLong_Type)) {
        return 0;
    }
    *word = PyLong_AsLongLongAndOverflow(value, &overflow);
    return !overflow;
}

static inline int
as_unsigned(PyObject *value, uint64_t *word)
{
    int64_t small;
    if (as_word(value, &small)) {
        *word = (uint64_t)small;
        return small >= 0;
    }
    if (!Py_IS_TYPE(value, &PyLong_Type)) {
        return 0;
    }
    *word = PyLong_AsUnsignedLongLong(value);
    if (*word == UINT64_MAX && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static PyTypeObject *numpy_float; /* once it is known; see `event_columns.know_numpy` */

static inline int
as_number(PyObject *value, double *number)
{
    int64_t word;
    if (Py_IS_TYPE(value, &PyFloat_Type) || Py_IS_TYPE(value, numpy_float)) {
        *number = PyFloat_AsDouble(value);
        return 1;
    }
    if (!as_word(value, &word) || word < -MAX_EXACT || word > MAX_EXACT) {
        return 0;
    }
    *number = (double)word;
    return 1;
}

/* -- Side records ------------------------------------------------------------------------------ */

typedef struct {
    const char *bytes;
    Py_ssize_t size;
} Text;

static int
as_text(PyObject *value, Text *text)
{
    if (!Py_IS_TYPE(value, &PyUnicode_Type)) {
        return 0;
    }
    text->bytes = PyUnicode_AsUTF8AndSize(value, &text->size);
    if (text->bytes == NULL) { /* half of a surrogate pair */
        PyErr_Clear();
        return 0;
    }
    return text->size <= UINT32_MAX;
}

static int
as_carried_text(PyObject *value, Text *text)
{
    return as_text(value, text) &&
           (text->size <= MAX_TEXT || PyUnicode_GetLength(value) <= MAX_TEXT);
}

static inline Py_ssize_t
text_room(const Text *text)
{
    Py_ssize_t size = text->size;
    return size + (size < 32 ? 1 : size < 256 ? 2 : size < 65536 ? 3 : 5);
}

static inline unsigned char *
put_big_endian(unsigned char *at, uint64_t value, int bytes)
{
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
        *at++ = (unsigned char)(value >> shift);
    }
    return at;
}

static inline unsigned char *
put_text(unsigned char *at, const Text *text)
{
    Py_ssize_t size = text->size;
    if (size < 32) {
        *at++ = (unsigned char)(0xa0 | size);
    }
    else if (size < 256) {
        *at++ = 0xd9;
        at = put_big_endian(at, (uint64_t)size, 1);
    }
    else if (size < 65536) {
        *at++ = 0xda;
        at = put_big_endian(at, (uint64_t)size, 2);
    }
    else {
        *at++ = 0xdb;
        at = put_big_endian(at, (uint64_t)size, 4);
    }
    memcpy(at, text->bytes, (size_t)size);
    return at + size;
}

static inline int
whole_number_room(uint64_t value)
{
    return value < 128 ? 0 : value < 256 ? 1 : value < 65536 ? 2 : value <= UINT32_MAX ? 4 : 8;
}

/* A side record as `side_texts.pack_texts` makes it: its length, then the MessagePack of
   [sequence, {key: text}, [], {}]. Pairs are keys and texts in turn. */
static PyObject *
side_record(uint64_t sequence, const Text *pairs, int many)
{
    static const unsigned char number_heads[] = {0, 0xcc, 0xcd, 0, 0xce, 0, 0, 0, 0xcf};
    int number = whole_number_room(sequence);
    Py_ssize_t size = 1 + 1 + number + (many < 16 ? 1 : 3) + 2;
    for (int each = 0; each < 2 * many; each++) {
        size += text_room(&pairs[each]);
    }
    if (size > UINT32_MAX) {
        PyErr_SetNone(PyExc_OverflowError);
        return NULL;
    }
    PyObject *record = PyBytes_FromStringAndSize(NULL, 4 + size);
    if (record == NULL) {
        return NULL;
    }
    unsigned char *at = (unsigned char *)PyBytes_AsString(record);
    uint32_t length = (uint32_t)size;
    memcpy(at, &length, 4);
    at += 4;
    *at++ = 0x94;
    if (number) {
        *at++ = number_heads[number];
        at = put_big_endian(at, sequence, number);
    }
    else {
        *at++ = (unsigned char)sequence;
    }
    if (many < 16) {
        *at++ = (unsigned char)(0x80 | many);
    }
    else {
        *at++ = 0xde;
        at = put_big_endian(at, (uint64_t)many, 2);
    }
    for (int each = 0; each < 2 * many; each++) {
        at = put_text(at, &pairs[each]);
    }
    *at++ = 0x90;
    *at = 0x80;
    return record;
}

/* The side record of texts by key; NULL without an error if they are not all texts or None. */
static PyObject *
side_record_of(uint64_t sequence, PyObject *texts)
{
    Text pairs[2 * MAX_PAIRS];
    int many = 0;
    Py_ssize_t place = 0;
    PyObject *key, *value;
    while (PyDict_Next(texts, &place, &key, &value)) {
        if (value == Py_None) {
            continue;
        }
        if (many == MAX_PAIRS || !as_text(key, &pairs[2 * many]) ||
            !as_carried_text(value, &pairs[2 * many + 1])) {
            return NULL;
        }
        many++;
    }
    return side_record(sequence, pairs, many);
}
