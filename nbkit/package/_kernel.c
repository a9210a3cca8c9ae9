/* Scores and Shapley values of trees that are laid out as tables: what numpy does in `_quick.py` and `_tree_paths.py`,
 * the same operations in the same order, so the same bits, without an array for every step.
 *
 * Compiled with -ffp-contract=off: a fused multiplication and addition would round once where numpy rounds twice.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Where the loader can choose, it takes the wider registers that the processor has. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* A row that the engine must read: its value is refused, absent, or read in a way that tables do not hold. */
#define NOT_HERE (-1)

/* Leaves whose factors stay in the first cache while the nodes of the quadrature are gone through. */
#define CHUNK 256

/* ---- from a row to its lines ---- */

/* How many of the sorted thresholds lie below a value. */
static Py_ssize_t
below(PyObject *thresholds, double value)
{
    const char *from = PyBytes_AsString(thresholds);
    Py_ssize_t many = PyBytes_Size(thresholds) / (Py_ssize_t)sizeof(double), low = 0;
    while (many > 0) {
        Py_ssize_t half = many / 2;
        double threshold;
        memcpy(&threshold, from + (low + half) * (Py_ssize_t)sizeof(double), sizeof(double));
        if (threshold < value) {
            low += half + 1;
            many -= half + 1;
        } else {
            many = half;
        }
    }
    return low;
}

static Py_ssize_t
number_at(PyObject *tuple, Py_ssize_t place)
{
    return PyLong_AsSsize_t(PyTuple_GetItem(tuple, place));
}

/* A number that is a column as it is: (name, thresholds, first line, line of missing). */
static int
add_number(PyObject *row, PyObject *number, Py_ssize_t **line)
{
    PyObject *value = PyDict_GetItemWithError(row, PyTuple_GetItem(number, 0));
    double real = NAN;
    if (value == NULL)
        return 0;
    if (value != Py_None) {
        real = PyFloat_AsDouble(value);
        if (real == -1.0 && PyErr_Occurred())
            return 0;
    }
    *(*line)++ = isnan(real) ? number_at(number, 3) : number_at(number, 2) + below(PyTuple_GetItem(number, 1), real);
    return 1;
}

/* A number that takes steps: (name, line of the present, lines of the absent, (function, thresholds, first, missing)…). */
static int
add_chain(PyObject *row, PyObject *chain, Py_ssize_t **line)
{
    PyObject *value = PyDict_GetItemWithError(row, PyTuple_GetItem(chain, 0));
    PyObject *absent = PyTuple_GetItem(chain, 2), *cells = PyTuple_GetItem(chain, 3);
    double real = NAN;
    if (value == NULL)
        return 0;
    if (value != Py_None) {
        real = PyFloat_AsDouble(value);
        if (real == -1.0 && PyErr_Occurred())
            return 0;
    }
    if (isnan(real)) {
        for (Py_ssize_t place = 0; place < PyTuple_Size(absent); place++)
            *(*line)++ = number_at(absent, place);
        return 1;
    }
    *(*line)++ = number_at(chain, 1);
    for (Py_ssize_t place = 0; place < PyTuple_Size(cells); place++) {
        PyObject *cell = PyTuple_GetItem(cells, place);
        PyObject *made = PyObject_CallFunctionObjArgs(PyTuple_GetItem(cell, 0), value, NULL);
        if (made == NULL)
            return 0;
        double moved = PyFloat_AsDouble(made);
        Py_DecRef(made);
        if (moved == -1.0 && PyErr_Occurred())
            return 0;
        *(*line)++ = isnan(moved) ? number_at(cell, 3) : number_at(cell, 2) + below(PyTuple_GetItem(cell, 1), moved);
    }
    return 1;
}

/* A category: (name, line of each value, line of any other). */
static int
add_category(PyObject *row, PyObject *category, Py_ssize_t **line)
{
    PyObject *value = PyDict_GetItemWithError(row, PyTuple_GetItem(category, 0)), *found;
    if (value == NULL)
        return 0;
    if (PyFloat_Check(value) && isnan(PyFloat_AsDouble(value)))
        value = Py_None;
    found = PyDict_GetItemWithError(PyTuple_GetItem(category, 1), value);
    if (found == NULL && PyErr_Occurred())
        return 0;
    *(*line)++ = found ? PyLong_AsSsize_t(found) : number_at(category, 2);
    return 1;
}

/* How many lines a row may take. */
static Py_ssize_t
most_lines(PyObject *numbers, PyObject *chains, PyObject *categories)
{
    Py_ssize_t most = PyTuple_Size(numbers) + PyTuple_Size(categories);
    for (Py_ssize_t place = 0; place < PyTuple_Size(chains); place++) {
        PyObject *chain = PyTuple_GetItem(chains, place);
        Py_ssize_t absent = PyTuple_Size(PyTuple_GetItem(chain, 2)), cells = PyTuple_Size(PyTuple_GetItem(chain, 3));
        most += absent > cells + 1 ? absent : cells + 1;
    }
    return most;
}

typedef int (*Adder)(PyObject *, PyObject *, Py_ssize_t **);

static int
add_all(PyObject *row, PyObject *columns, Adder add, Py_ssize_t **line)
{
    for (Py_ssize_t place = 0; place < PyTuple_Size(columns); place++)
        if (!add(row, PyTuple_GetItem(columns, place), line))
            return 0;
    return 1;
}

/* ---- from lines to a margin ---- */

#define MARGIN(NAME, WORD, LOWEST, REAL)                                                                              \
    WIDE static int NAME(const WORD *words, Py_ssize_t trees, const Py_ssize_t *lines, Py_ssize_t many, WORD *left,   \
                         const REAL *leaves, double divisor, double bias, double *margin)                             \
    {                                                                                                                 \
        const Py_ssize_t bits = 8 * (Py_ssize_t)sizeof(WORD);                                                         \
        memset(left, 0xFF, (size_t)trees * sizeof(WORD));                                                             \
        for (Py_ssize_t place = 0; place < many; place++) {                                                           \
            const WORD *word = words + lines[place] * trees;                                                          \
            for (Py_ssize_t tree = 0; tree < trees; tree++)                                                           \
                left[tree] &= word[tree];                                                                             \
        }                                                                                                             \
        REAL sum = 0;                                                                                                 \
        for (Py_ssize_t tree = 0; tree < trees; tree++) {                                                             \
            if (left[tree] == 0)                                                                                      \
                return 0;                                                                                             \
            REAL leaf = leaves[tree * bits + LOWEST(left[tree])];                                                     \
            sum = tree ? (REAL)(sum + leaf) : leaf;                                                                   \
        }                                                                                                             \
        double mean = (double)(REAL)((double)sum / divisor);                                                          \
        *margin = (double)(REAL)(mean + bias);                                                                        \
        return 1;                                                                                                     \
    }

MARGIN(margin_32_single, uint32_t, __builtin_ctz, float)
MARGIN(margin_32_double, uint32_t, __builtin_ctz, double)
MARGIN(margin_64_single, uint64_t, __builtin_ctzll, float)
MARGIN(margin_64_double, uint64_t, __builtin_ctzll, double)

PyDoc_STRVAR(margins_doc,
"margins(rows, numbers, chains, categories, words, trees, leaves, divisor, bias, out) -> bool\n\n"
"Write the margin of each row to `out`; False where the engine must read one of them.");

static PyObject *
margins(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *rows, *numbers, *chains, *categories;
    Py_ssize_t trees, many;
    Py_buffer words, leaves, out;
    double divisor, bias;
    if (!PyArg_ParseTuple(args, "O!O!O!O!y*ny*ddw*", &PyList_Type, &rows, &PyTuple_Type, &numbers, &PyTuple_Type,
                          &chains, &PyTuple_Type, &categories, &words, &trees, &leaves, &divisor, &bias, &out))
        return NULL;
    Py_ssize_t *lines = PyMem_Malloc((size_t)(most_lines(numbers, chains, categories) + 1) * sizeof(Py_ssize_t));
    uint64_t *left = PyMem_Malloc((size_t)(trees + 1) * sizeof(uint64_t));
    int here = lines != NULL && left != NULL;
    if (!here)
        PyErr_NoMemory();
    many = PyList_Size(rows);
    Py_ssize_t stored = words.len / (trees * words.itemsize);
    if (here && (out.len < many * (Py_ssize_t)sizeof(double) || leaves.len < trees * 8 * words.itemsize * leaves.itemsize)) {
        PyErr_SetString(PyExc_ValueError, "an array is too short");
        here = 0;
    }
    for (Py_ssize_t place = 0; here && place < many; place++) {
        PyObject *row = PyList_GetItem(rows, place);
        Py_ssize_t *end = lines;
        here = PyDict_Check(row) && add_all(row, numbers, add_number, &end) && add_all(row, chains, add_chain, &end)
               && add_all(row, categories, add_category, &end) && !PyErr_Occurred();
        for (Py_ssize_t *line = lines; here && line < end; line++)
            here = *line > NOT_HERE && *line < stored;
        if (!here)
            break;
        double *margin = (double *)out.buf + place;
        Py_ssize_t found = end - lines;
        if (words.itemsize == 4)
            here = leaves.itemsize == 4
                       ? margin_32_single(words.buf, trees, lines, found, (uint32_t *)left, leaves.buf, divisor, bias, margin)
                       : margin_32_double(words.buf, trees, lines, found, (uint32_t *)left, leaves.buf, divisor, bias, margin);
        else
            here = leaves.itemsize == 4
                       ? margin_64_single(words.buf, trees, lines, found, left, leaves.buf, divisor, bias, margin)
                       : margin_64_double(words.buf, trees, lines, found, left, leaves.buf, divisor, bias, margin);
    }
    PyMem_Free(lines);
    PyMem_Free(left);
    PyBuffer_Release(&words);
    PyBuffer_Release(&leaves);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(here);
}

/* ---- Shapley values ---- */

/* One chunk of leaves: what each cell is worth, by quadrature. Arrays are (width, leaves); the chunk begins at `from`. */
WIDE static void
worth(Py_ssize_t width, Py_ssize_t leaves, Py_ssize_t from, Py_ssize_t many, const uint8_t *satisfied,
      const double *value, const double *share, const double *time, const double *weight,
      Py_ssize_t nodes, double *factor, double *others)
{
    double product[CHUNK];
    for (Py_ssize_t node = 0; node < nodes; node++) {
        const double known = time[node], unknown = 1.0 - time[node];
        for (Py_ssize_t cell = 0; cell < width; cell++) {
            const uint8_t *holds = satisfied + cell * leaves + from;
            const double *low = share + cell * leaves + from;
            double *own = factor + cell * CHUNK;
            for (Py_ssize_t leaf = 0; leaf < many; leaf++)
                own[leaf] = (low[leaf] < DBL_MIN ? DBL_MIN : low[leaf]) * unknown + (double)holds[leaf] * known;
            for (Py_ssize_t leaf = 0; leaf < many; leaf++)
                product[leaf] = cell ? product[leaf] * own[leaf] : own[leaf];
        }
        for (Py_ssize_t leaf = 0; leaf < many; leaf++)
            product[leaf] *= weight[node];
        for (Py_ssize_t cell = 0; cell < width; cell++) {
            const double *own = factor + cell * CHUNK;
            double *sum = others + cell * leaves + from;
            for (Py_ssize_t leaf = 0; leaf < many; leaf++)
                sum[leaf] = (node ? sum[leaf] : 0.0) + product[leaf] / own[leaf];
        }
    }
    for (Py_ssize_t cell = 0; cell < width; cell++) {
        const uint8_t *holds = satisfied + cell * leaves + from;
        const double *gone = share + cell * leaves + from;
        double *sum = others + cell * leaves + from;
        for (Py_ssize_t leaf = 0; leaf < many; leaf++)
            sum[leaf] = sum[leaf] * value[from + leaf] * ((double)holds[leaf] - gone[leaf]);
    }
}

PyDoc_STRVAR(shapley_doc,
"shapley(left, value, column, split, to_left, again, start, more_split, more_left, share, time, weight,\n"
"        satisfied, others, sums)\n\n"
"Write the Shapley value of each column, over one block of leaves, to `sums`; `satisfied` and `others` are room.\n"
"Places in arrays are those that the layout has put there.");

enum { LEFT, VALUE, COLUMN, SPLIT, TO_LEFT, AGAIN, START, MORE_SPLIT, MORE_LEFT, SHARE, TIME, WEIGHT, SATISFIED,
       OTHERS, SUMS, ARRAYS };

static PyObject *
shapley(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*y*y*y*y*y*y*w*w*w*", a + LEFT, a + VALUE, a + COLUMN, a + SPLIT,
                          a + TO_LEFT, a + AGAIN, a + START, a + MORE_SPLIT, a + MORE_LEFT, a + SHARE,
                          a + TIME, a + WEIGHT, a + SATISFIED, a + OTHERS, a + SUMS))
        return NULL;
    const Py_ssize_t real = (Py_ssize_t)sizeof(double), whole = (Py_ssize_t)sizeof(int32_t);
    const Py_ssize_t leaves = a[VALUE].len / real, cells = a[SHARE].len / real, width = leaves ? cells / leaves : 0;
    const Py_ssize_t twice = a[AGAIN].len / whole, more = a[MORE_SPLIT].len / whole, columns = a[SUMS].len / real;
    const uint8_t *left = a[LEFT].buf, *to_left = a[TO_LEFT].buf, *more_left = a[MORE_LEFT].buf;
    const int32_t *column = a[COLUMN].buf, *split = a[SPLIT].buf, *again = a[AGAIN].buf, *start = a[START].buf;
    const int32_t *more_split = a[MORE_SPLIT].buf;
    uint8_t *satisfied = a[SATISFIED].buf;
    double *others = a[OTHERS].buf, *sums = a[SUMS].buf;
    double *factor = PyMem_Malloc((size_t)(width + 1) * CHUNK * sizeof(double));
    int fits = a[COLUMN].len >= cells * whole && a[SPLIT].len >= cells * whole && a[TO_LEFT].len >= cells
               && a[SATISFIED].len >= cells && a[OTHERS].len >= cells * real
               && a[START].len >= twice * whole && a[MORE_LEFT].len >= more && a[WEIGHT].len >= a[TIME].len;
    if (factor == NULL) {
        PyErr_NoMemory();
    } else if (!fits) {
        PyErr_SetString(PyExc_ValueError, "an array is too short");
    } else {
        for (Py_ssize_t cell = 0; cell < cells; cell++)
            satisfied[cell] = left[split[cell]] == to_left[cell];
        for (Py_ssize_t place = 0; place < twice; place++) {
            const Py_ssize_t end = place + 1 < twice ? start[place + 1] : more;
            for (Py_ssize_t step = start[place]; step < end; step++)
                satisfied[again[place]] &= left[more_split[step]] == more_left[step];
        }
        for (Py_ssize_t from = 0; from < leaves; from += CHUNK)
            worth(width, leaves, from, leaves - from < CHUNK ? leaves - from : CHUNK, satisfied, a[VALUE].buf,
                  a[SHARE].buf, a[TIME].buf, a[WEIGHT].buf, a[TIME].len / real, factor, others);
        memset(sums, 0, (size_t)columns * sizeof(double));
        for (Py_ssize_t cell = 0; cell < cells; cell++)
            sums[column[cell]] += others[cell];
    }
    PyMem_Free(factor);
    for (int array = 0; array < ARRAYS; array++)
        PyBuffer_Release(a + array);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    {"margins", margins, METH_VARARGS, margins_doc},
    {"shapley", shapley, METH_VARARGS, shapley_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "nbkit.package._kernel",
    .m_doc = "Scores and Shapley values of trees that are laid out as tables.", .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__kernel(void)
{
    return PyModuleDef_Init(&module);
}
