/* Scores and Shapley values of trees that are laid out as tables: what numpy does in `_quick.py` and `_tree_paths.py`,
 * the same operations in the same order, so the same bits, without an array for every step.
 *
 * Compiled with -ffp-contract=off: a fused multiplication and addition would round once where numpy rounds twice.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "sums are kept in wider registers here, and would not be the bits that numpy gives"
#endif

/* Where the loader can choose, it takes the wider registers that the processor has. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* A row that the engine must read: its value is refused, absent, or read in a way that tables do not hold. */
#define NOT_HERE (-1)

/* Leaves that go through the quadrature together: their products stay in registers. */
typedef double Four __attribute__((vector_size(32)));
#define FOURS 4
#define LANES (4 * FOURS)

/* ---- from a row to its lines ---- */

/* The lines of a row, as they are found. Each is asked of memory at once: the tables are larger than the near caches, and
 * while the next input is looked up, the line of this one is on its way. */
typedef struct {
    const char *words;
    Py_ssize_t stored, bytes; /* lines that there are, and what one takes */
    Py_ssize_t *lines, found;
} Found;

static void
add_line(Found *found, Py_ssize_t line)
{
    found->lines[found->found++] = line;
    if (line > 0 && line < found->stored)
        for (Py_ssize_t at = 0; at < found->bytes; at += 64)
            __builtin_prefetch(found->words + line * found->bytes + at);
}

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

/* A number of a row, NaN where it is missing; 0 where it is no number, or not there. */
static int
read_number(PyObject *row, PyObject *name, PyObject **value, double *real)
{
    *value = PyDict_GetItemWithError(row, name);
    if (*value == NULL)
        return 0;
    *real = *value == Py_None ? NAN : PyFloat_AsDouble(*value);
    return *real != -1.0 || !PyErr_Occurred();
}

/* A number that is a column as it is: (name, thresholds, first line, line of missing). */
static int
add_number(PyObject *row, PyObject *number, Found *found)
{
    PyObject *value;
    double real;
    if (!read_number(row, PyTuple_GetItem(number, 0), &value, &real))
        return 0;
    add_line(found, isnan(real) ? number_at(number, 3) : number_at(number, 2) + below(PyTuple_GetItem(number, 1), real));
    return 1;
}

/* A number that takes steps: (name, line of the present, lines of the absent, (function, thresholds, first, missing)…). */
static int
add_chain(PyObject *row, PyObject *chain, Found *found)
{
    PyObject *absent = PyTuple_GetItem(chain, 2), *cells = PyTuple_GetItem(chain, 3), *value;
    double real;
    int here = 1;
    if (!read_number(row, PyTuple_GetItem(chain, 0), &value, &real))
        return 0;
    if (isnan(real)) {
        for (Py_ssize_t place = 0; place < PyTuple_Size(absent); place++)
            add_line(found, number_at(absent, place));
        return 1;
    }
    add_line(found, number_at(chain, 1));
    /* What is called may take it out of the row. */
    Py_IncRef(value);
    for (Py_ssize_t place = 0; here && place < PyTuple_Size(cells); place++) {
        PyObject *cell = PyTuple_GetItem(cells, place);
        PyObject *made = PyObject_CallFunctionObjArgs(PyTuple_GetItem(cell, 0), value, NULL);
        double moved = made == NULL ? -1.0 : PyFloat_AsDouble(made);
        Py_DecRef(made);
        here = moved != -1.0 || !PyErr_Occurred();
        if (here)
            add_line(found, isnan(moved) ? number_at(cell, 3) : number_at(cell, 2) + below(PyTuple_GetItem(cell, 1), moved));
    }
    Py_DecRef(value);
    return here;
}

/* A category: (name, line of each value, line of any other). */
static int
add_category(PyObject *row, PyObject *category, Found *found)
{
    PyObject *value = PyDict_GetItemWithError(row, PyTuple_GetItem(category, 0)), *known;
    if (value == NULL)
        return 0;
    if (!PyUnicode_Check(value) && value != Py_None) {
        if (!PyFloat_Check(value) || !isnan(PyFloat_AsDouble(value)))
            return 0;
        value = Py_None;
    }
    known = PyDict_GetItemWithError(PyTuple_GetItem(category, 1), value);
    if (known == NULL && PyErr_Occurred())
        return 0;
    add_line(found, known ? PyLong_AsSsize_t(known) : number_at(category, 2));
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

typedef int (*Adder)(PyObject *, PyObject *, Found *);

static int
add_all(PyObject *row, PyObject *columns, Adder add, Found *found)
{
    for (Py_ssize_t place = 0; place < PyTuple_Size(columns); place++)
        if (!add(row, PyTuple_GetItem(columns, place), found))
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
    const Py_ssize_t word = words.itemsize, real = leaves.itemsize;
    const int fits = (word == 4 || word == 8) && (real == 4 || real == 8) && trees > 0 && trees <= words.len / word;
    Py_ssize_t *lines = PyMem_Malloc((size_t)(most_lines(numbers, chains, categories) + 1) * sizeof(Py_ssize_t));
    uint64_t *left = PyMem_Malloc((size_t)(fits ? trees : 1) * sizeof(uint64_t));
    int here = lines != NULL && left != NULL;
    if (!here)
        PyErr_NoMemory();
    many = PyList_Size(rows);
    if (here && (!fits || out.len / (Py_ssize_t)sizeof(double) < many || leaves.len / (8 * word * real) < trees)) {
        PyErr_SetString(PyExc_ValueError, "an array is too short");
        here = 0;
    }
    const Py_ssize_t stored = here ? words.len / (trees * word) : 0;
    for (Py_ssize_t place = 0; here && place < many; place++) {
        PyObject *row = PyList_GetItem(rows, place);
        Found found = {words.buf, stored, trees * word, lines, 0};
        here = row != NULL && PyDict_Check(row) && add_all(row, numbers, add_number, &found)
               && add_all(row, chains, add_chain, &found) && add_all(row, categories, add_category, &found) && !PyErr_Occurred();
        for (Py_ssize_t at = 0; here && at < found.found; at++)
            here = lines[at] > NOT_HERE && lines[at] < stored;
        if (!here)
            break;
        double *margin = (double *)out.buf + place;
        if (word == 4)
            here = real == 4
                       ? margin_32_single(words.buf, trees, lines, found.found, (uint32_t *)left, leaves.buf, divisor, bias, margin)
                       : margin_32_double(words.buf, trees, lines, found.found, (uint32_t *)left, leaves.buf, divisor, bias, margin);
        else
            here = real == 4
                       ? margin_64_single(words.buf, trees, lines, found.found, left, leaves.buf, divisor, bias, margin)
                       : margin_64_double(words.buf, trees, lines, found.found, left, leaves.buf, divisor, bias, margin);
    }
    PyMem_Free(lines);
    PyMem_Free(left);
    PyBuffer_Release(&words);
    PyBuffer_Release(&leaves);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(here);
}

/* ---- Shapley values ---- */

/* What each cell of up to LANES leaves is worth, by quadrature. Arrays are (width, leaves), and `room` is for five of
 * (width, LANES). What the others are worth is the product of the factors before and that of those behind: a division
 * by the own factor takes as long as ten products, and fails where a branch was never taken. */
WIDE static void
worth(Py_ssize_t width, Py_ssize_t leaves, Py_ssize_t from, Py_ssize_t many, const uint8_t *satisfied,
      const double *value, const double *share, const double *time, const double *weight,
      Py_ssize_t nodes, double *room, double *others)
{
    const Py_ssize_t cells = width * LANES;
    double *gone = room, *holds = gone + cells, *own = holds + cells, *before = own + cells, *sum = before + cells;
    for (Py_ssize_t cell = 0; cell < width; cell++)
        for (Py_ssize_t leaf = 0; leaf < many; leaf++) {
            gone[cell * LANES + leaf] = share[cell * leaves + from + leaf];
            holds[cell * LANES + leaf] = satisfied[cell * leaves + from + leaf];
        }
    memset(sum, 0, (size_t)cells * sizeof(double));
    for (Py_ssize_t node = 0; node < nodes; node++) {
        const double known = time[node], unknown = 1.0 - time[node];
        Four product[FOURS];
        for (int four = 0; four < FOURS; four++)
            product[four] = (Four){0} + weight[node];
        for (Py_ssize_t at = 0; at < cells; at += LANES) {
            const Four *low = (Four *)(gone + at), *high = (Four *)(holds + at);
            Four *factor = (Four *)(own + at), *first = (Four *)(before + at);
            for (int four = 0; four < FOURS; four++) {
                const Four now = low[four] * unknown + high[four] * known;
                factor[four] = now;
                first[four] = product[four];
                product[four] *= now;
            }
        }
        for (int four = 0; four < FOURS; four++)
            product[four] = (Four){0} + 1.0;
        for (Py_ssize_t at = cells - LANES; at >= 0; at -= LANES) {
            const Four *factor = (Four *)(own + at), *first = (Four *)(before + at);
            Four *all = (Four *)(sum + at);
            for (int four = 0; four < FOURS; four++) {
                all[four] += first[four] * product[four];
                product[four] *= factor[four];
            }
        }
    }
    for (Py_ssize_t cell = 0; cell < width; cell++)
        for (Py_ssize_t leaf = 0; leaf < many; leaf++) {
            const Py_ssize_t at = cell * LANES + leaf;
            others[cell * leaves + from + leaf] = sum[at] * value[from + leaf] * (holds[at] - gone[at]);
        }
}

/* Arrays of a tuple as buffers; `let_go` also after a failure, because an unfilled buffer is nobody's. */
static int
take(PyObject *arrays, Py_buffer *taken, Py_ssize_t many, int flags)
{
    memset(taken, 0, (size_t)many * sizeof(Py_buffer));
    if (!PyTuple_Check(arrays) || PyTuple_Size(arrays) != many) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of %zd arrays", many);
        return 0;
    }
    for (Py_ssize_t place = 0; place < many; place++)
        if (PyObject_GetBuffer(PyTuple_GetItem(arrays, place), taken + place, flags) < 0)
            return 0;
    return 1;
}

static void
let_go(Py_buffer *taken, Py_ssize_t many)
{
    for (Py_ssize_t place = 0; place < many; place++)
        PyBuffer_Release(taken + place);
}

static int
too_short(void)
{
    PyErr_SetString(PyExc_ValueError, "an array is too short");
    return 0;
}

enum { COLUMN, THRESHOLD, MISSING_LEFT, SPLIT_ARRAYS };
enum { VALUE, PLACE, SPLIT, TO_LEFT, AGAIN, START, MORE_SPLIT, MORE_LEFT, SHARE, TIME, WEIGHT, BLOCK_ARRAYS };
enum { LEFT, SATISFIED, OTHERS, SUMS, ROOM_ARRAYS };

/* Decide every split for a row; what padding names comes last, and every row satisfies it. */
static int
turn(const Py_buffer *splits, const Py_buffer *row, PyObject *turned, const Py_buffer *room)
{
    const Py_ssize_t many = splits[THRESHOLD].len / (Py_ssize_t)sizeof(double);
    const int32_t *column = splits[COLUMN].buf;
    const double *threshold = splits[THRESHOLD].buf, *cells = row->buf;
    const uint8_t *missing_left = splits[MISSING_LEFT].buf;
    uint8_t *left = room[LEFT].buf;
    if (splits[COLUMN].len < many * (Py_ssize_t)sizeof(int32_t) || splits[MISSING_LEFT].len < many || room[LEFT].len <= many)
        return too_short();
    for (Py_ssize_t split = 0; split < many; split++) {
        const double cell = cells[column[split]];
        left[split] = (uint8_t)((cell <= threshold[split]) | (isnan(cell) & missing_left[split]));
    }
    left[many] = 1;
    for (Py_ssize_t place = 0; place < PyList_Size(turned); place++) {
        Py_ssize_t split;
        int to_left;
        PyObject *pair = PyList_GetItem(turned, place);
        if (!PyTuple_Check(pair)) {
            PyErr_SetString(PyExc_TypeError, "expected pairs of a split and whether a row goes left there");
            return 0;
        }
        if (!PyArg_ParseTuple(pair, "np", &split, &to_left))
            return 0;
        if (split >= 0 && split < many)
            left[split] = (uint8_t)to_left;
    }
    return 1;
}

/* These two are most of what is not arithmetic; by themselves they stay in registers. */
__attribute__((noinline)) static void
compare(Py_ssize_t cells, const uint8_t *restrict left, const int32_t *restrict split, const uint8_t *restrict to_left,
        uint8_t *restrict satisfied)
{
    for (Py_ssize_t cell = 0; cell < cells; cell++)
        satisfied[cell] = left[split[cell]] == to_left[cell];
}

__attribute__((noinline)) static void
add_up(Py_ssize_t cells, const int32_t *restrict column, const double *restrict others, double *restrict sums)
{
    for (Py_ssize_t cell = 0; cell < cells; cell++)
        sums[column[cell]] += others[cell];
}

/* Add what one block of leaves gives each column. */
static int
add_block(PyObject *arrays, const Py_buffer *room, Py_buffer *out)
{
    Py_buffer a[BLOCK_ARRAYS];
    const Py_ssize_t real = (Py_ssize_t)sizeof(double), whole = (Py_ssize_t)sizeof(int32_t);
    double *factor = NULL;
    int done = take(arrays, a, BLOCK_ARRAYS, PyBUF_SIMPLE);
    if (done) {
        const Py_ssize_t leaves = a[VALUE].len / real, cells = a[SHARE].len / real, width = leaves ? cells / leaves : 0;
        const Py_ssize_t twice = a[AGAIN].len / whole, more = a[MORE_SPLIT].len / whole, columns = out->len / real;
        const uint8_t *left = room[LEFT].buf, *to_left = a[TO_LEFT].buf, *more_left = a[MORE_LEFT].buf;
        const int32_t *column = a[PLACE].buf, *split = a[SPLIT].buf, *again = a[AGAIN].buf, *start = a[START].buf;
        const int32_t *more_split = a[MORE_SPLIT].buf;
        uint8_t *satisfied = room[SATISFIED].buf;
        double *others = room[OTHERS].buf, *sums = room[SUMS].buf, *total = out->buf;
        factor = PyMem_Calloc((size_t)(width + 1) * LANES * 5, sizeof(double));
        /* A vector over two lines of the cache is twice as dear; there is room for one column more. */
        double *aligned = (double *)(((uintptr_t)factor + 63) & ~(uintptr_t)63);
        if (a[PLACE].len < cells * whole || a[SPLIT].len < cells * whole || a[TO_LEFT].len < cells
            || a[START].len < twice * whole || a[MORE_LEFT].len < more || a[WEIGHT].len < a[TIME].len
            || room[SATISFIED].len < cells || room[OTHERS].len < cells * real || room[SUMS].len < out->len) {
            done = too_short();
        } else if (factor == NULL) {
            PyErr_NoMemory();
            done = 0;
        } else {
            compare(cells, left, split, to_left, satisfied);
            for (Py_ssize_t place = 0; place < twice; place++) {
                const Py_ssize_t end = place + 1 < twice ? start[place + 1] : more;
                for (Py_ssize_t step = start[place]; step < end; step++)
                    satisfied[again[place]] &= left[more_split[step]] == more_left[step];
            }
            for (Py_ssize_t from = 0; from < leaves; from += LANES)
                worth(width, leaves, from, leaves - from < LANES ? leaves - from : LANES, satisfied, a[VALUE].buf,
                      a[SHARE].buf, a[TIME].buf, a[WEIGHT].buf, a[TIME].len / real, aligned, others);
            memset(sums, 0, (size_t)columns * sizeof(double));
            add_up(cells, column, others, sums);
            for (Py_ssize_t place = 0; place < columns; place++)
                total[place] += sums[place];
        }
    }
    PyMem_Free(factor);
    let_go(a, BLOCK_ARRAYS);
    return done;
}

PyDoc_STRVAR(shapley_doc,
"shapley(row, splits, turned, blocks, room, out)\n\n"
"Write the Shapley value of each column to `out`; `turned` are the splits by category that the row meets, each with\n"
"whether it goes left there. Places in arrays are those that `TreePaths` has put there.");

static PyObject *
shapley(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *split_arrays, *turned, *blocks, *room_arrays;
    Py_buffer row, out, splits[SPLIT_ARRAYS], room[ROOM_ARRAYS] = {{0}};
    if (!PyArg_ParseTuple(args, "y*OO!O!Ow*", &row, &split_arrays, &PyList_Type, &turned, &PyTuple_Type, &blocks,
                          &room_arrays, &out))
        return NULL;
    int done = take(split_arrays, splits, SPLIT_ARRAYS, PyBUF_SIMPLE);
    done = done && take(room_arrays, room, ROOM_ARRAYS, PyBUF_WRITABLE);
    if (done && row.len < out.len)
        done = too_short();
    done = done && turn(splits, &row, turned, room);
    memset(out.buf, 0, (size_t)out.len);
    for (Py_ssize_t place = 0; done && place < PyTuple_Size(blocks); place++)
        done = add_block(PyTuple_GetItem(blocks, place), room, &out);
    let_go(splits, SPLIT_ARRAYS);
    let_go(room, ROOM_ARRAYS);
    PyBuffer_Release(&row);
    PyBuffer_Release(&out);
    if (!done)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    {"margins", margins, METH_VARARGS, margins_doc},
    {"shapley", shapley, METH_VARARGS, shapley_doc},
    {NULL, NULL, 0, NULL},
};

/* Raised whenever what a function takes changes: a checkout may be newer than what was compiled from it. */
#define FORMAT 3

static int
kernel_exec(PyObject *made)
{
    return PyModule_AddIntConstant(made, "FORMAT", FORMAT);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, kernel_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "nbkit.package._kernel",
    .m_doc = "Scores and Shapley values of trees that are laid out as tables.", .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__kernel(void)
{
    return PyModuleDef_Init(&module);
}
