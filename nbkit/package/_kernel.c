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
typedef int64_t Mask __attribute__((vector_size(32)));
typedef double Loose __attribute__((vector_size(32), aligned(8))); /* in memory that is not this module's */
#define FOURS 4
#define LANES (4 * FOURS)

/* Most paths have at most so many columns; the compiler unrolls what is done for them. */
#define FEW 8

/* Sums that are kept of each column: one waits for what was added before. */
#define SUMS 4

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
below(const char *from, Py_ssize_t many, double value)
{
    Py_ssize_t low = 0;
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
below_kept(PyObject *thresholds, double value)
{
    return below(PyBytes_AsString(thresholds), PyBytes_Size(thresholds) / (Py_ssize_t)sizeof(double), value);
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
    add_line(found, isnan(real) ? number_at(number, 3) : number_at(number, 2) + below_kept(PyTuple_GetItem(number, 1), real));
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
            add_line(found, isnan(moved) ? number_at(cell, 3) : number_at(cell, 2) + below_kept(PyTuple_GetItem(cell, 1), moved));
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

/* What each cell of LANES leaves is worth, by quadrature; all arrays are (width, LANES). What the others are worth is the
 * product of the factors before and that of those behind: a division by the own factor takes as long as ten products, and
 * fails where a branch was never taken. For a width that the compiler knows, products stay in registers. */
static inline __attribute__((always_inline)) void
worth(const Py_ssize_t width, const Loose *share, const Mask *holds, const Loose *value, const double *time,
      const double *weight, Four *own, Four *before, Four *given)
{
    const Mask one = (Mask)((Four){0} + 1.0);
    for (int four = 0; four < FOURS; four++) {
#pragma GCC unroll 4
        for (Py_ssize_t node = 0; node < (width + 1) / 2; node++) {
            const double unknown = 1.0 - time[node];
            const Mask known = (Mask)((Four){0} + time[node]);
            Four product = (Four){0} + weight[node];
#pragma GCC unroll 8
            for (Py_ssize_t at = 0; at < width; at++) {
                own[at] = share[at * FOURS + four] * unknown + (Four)(holds[at * FOURS + four] & known);
                before[at] = product;
                product *= own[at];
            }
            product = (Four){0} + 1.0;
#pragma GCC unroll 8
            for (Py_ssize_t at = width - 1; at >= 0; at--) {
                const Four others = before[at] * product;
                given[at * FOURS + four] = node ? given[at * FOURS + four] + others : others;
                product *= own[at];
            }
        }
#pragma GCC unroll 8
        for (Py_ssize_t at = 0; at < width; at++)
            given[at * FOURS + four] *= value[four];
#pragma GCC unroll 8
        for (Py_ssize_t at = 0; at < width; at++)
            given[at * FOURS + four] *= (Four)(holds[at * FOURS + four] & one) - share[at * FOURS + four];
    }
}

#define WORTH(WIDTH)                                                                                                  \
    case WIDTH:                                                                                                       \
        worth(WIDTH, gone, all, worth_of, time, weight, near, near + FEW, wide);                                      \
        break

/* The same; `room` is for two of (width, 4), where there are more than a few columns. */
WIDE static void
worths(Py_ssize_t width, const double *share, const int64_t *holds, const double *value, const double *time,
       const double *weight, double *room, double *given)
{
    const Loose *gone = (const Loose *)share, *worth_of = (const Loose *)value;
    const Mask *all = (const Mask *)holds;
    Four near[2 * FEW], *far = (Four *)room, *wide = (Four *)given;
    switch (width) {
        WORTH(1);
        WORTH(2);
        WORTH(3);
        WORTH(4);
        WORTH(5);
        WORTH(6);
        WORTH(7);
        WORTH(8);
    default:
        worth(width, gone, all, worth_of, time, weight, far, far + width, wide);
    }
}

/* Whether an array lies where its items may lie; numpy also makes others, out of any bytes. */
static int
is_aligned(const Py_buffer *array)
{
    if (array->itemsize < 2 || (uintptr_t)array->buf % (uintptr_t)array->itemsize == 0)
        return 1;
    PyErr_SetString(PyExc_ValueError, "an array is not aligned to its items");
    return 0;
}

/* Arrays of a tuple as buffers; `let_go` also after a failure, because an unfilled buffer is nobody's. */
static int
take(PyObject *arrays, Py_buffer *taken, Py_ssize_t many)
{
    memset(taken, 0, (size_t)many * sizeof(Py_buffer));
    if (!PyTuple_Check(arrays) || PyTuple_Size(arrays) != many) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of %zd arrays", many);
        return 0;
    }
    for (Py_ssize_t place = 0; place < many; place++)
        if (PyObject_GetBuffer(PyTuple_GetItem(arrays, place), taken + place, PyBUF_SIMPLE) < 0 || !is_aligned(taken + place))
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

static int
not_there(void)
{
    PyErr_SetString(PyExc_ValueError, "an array names a split or a cell that there is not");
    return 0;
}

/* What is read of a model: how its rows are split, and its leaves (see `_Splits` and `_Leaves`). */
enum { END, THRESHOLD, MISSING_LEFT, SPLIT_ARRAYS };
enum { SHAPE, VALUE, CODE, SHARE, MORE_CELL, MORE, TIME, WEIGHT, LEAF_ARRAYS };

/* What is known of a step by its code, which is twice the number of the split, and one more to the right: SUMS times the
 * column, and one more where the row takes that step. */
typedef uint32_t State;

/* Room for what is computed of a row on the way. */
typedef struct {
    Py_ssize_t splits;
    State *state, *seen;         /* by code, and by cell of a chunk */
    int64_t *holds;              /* by cell of a chunk: all bits where the row satisfies it, else none */
    double *given, *far, *sums;  /* by cell of a chunk; what `worths` needs; SUMS of each column */
} Room;

/* How far the leaves were read. */
typedef struct {
    Py_ssize_t leaf, cell, more, node;
} Place;

/* Decide splits of a column, sorted by threshold, for a row. */
static void
turn_column(Py_ssize_t column, double cell, const double *threshold, const uint8_t *missing_left, Py_ssize_t from,
            Py_ssize_t end, State *state)
{
    const State no = (State)(column * SUMS), yes = no + 1;
    if (isnan(cell)) {
        for (Py_ssize_t split = from; split < end; split++) {
            state[2 * split] = missing_left[split] ? yes : no;
            state[2 * split + 1] = missing_left[split] ? no : yes;
        }
        return;
    }
    const Py_ssize_t left = from + below((const char *)(threshold + from), end - from, cell);
    for (Py_ssize_t split = from; split < left; split++) {
        state[2 * split] = no;
        state[2 * split + 1] = yes;
    }
    for (Py_ssize_t split = left; split < end; split++) {
        state[2 * split] = yes;
        state[2 * split + 1] = no;
    }
}

/* Decide every split for a row; what padding names comes last, and every row satisfies it. */
static int
turn(const Py_buffer *splits, const double *cells, PyObject *turned, Py_ssize_t columns, const Room *room)
{
    const int32_t *ends = splits[END].buf;
    Py_ssize_t from = 0;
    for (Py_ssize_t column = 0; column < columns; column++) {
        if (ends[column] < from || ends[column] > room->splits)
            return not_there();
        turn_column(column, cells[column], splits[THRESHOLD].buf, splits[MISSING_LEFT].buf, from, ends[column], room->state);
        from = ends[column];
    }
    if (from < room->splits)
        return not_there();
    room->state[2 * from] = room->state[2 * from + 1] = 1;
    for (Py_ssize_t place = 0; place < PyList_Size(turned); place++) {
        PyObject *pair = PyList_GetItem(turned, place);
        if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "expected pairs of a split and whether a row goes left there");
            return 0;
        }
        /* Nothing but integers: asking anything else runs what could change an array that was looked at before. */
        const Py_ssize_t split = PyLong_AsSsize_t(PyTuple_GetItem(pair, 0)), to_left = PyLong_AsSsize_t(PyTuple_GetItem(pair, 1));
        if (PyErr_Occurred())
            return 0;
        if (split >= 0 && split < room->splits) {
            State *state = room->state + 2 * split;
            state[0] = (state[0] & ~(State)1) | (to_left != 0);
            state[1] = state[0] ^ 1;
        }
    }
    return 1;
}

/* Add what the leaves of a block give each column, chunk by chunk. */
WIDE static int
add_block(const Py_buffer *leaves, Py_ssize_t chunks, Py_ssize_t width, const Room *room, Place *place)
{
    const Py_ssize_t cells = width * LANES, steps = leaves[MORE].len / (Py_ssize_t)sizeof(uint32_t);
    const double *time = (const double *)leaves[TIME].buf + place->node;
    const double *weight = (const double *)leaves[WEIGHT].buf + place->node;
    const int32_t *more_cell = leaves[MORE_CELL].buf;
    const uint32_t *more = leaves[MORE].buf, last = (uint32_t)(2 * room->splits + 1);
    const State *state = room->state;
    State *restrict seen = room->seen;
    int64_t *restrict holds = room->holds;
    double *restrict given = room->given, *restrict sums = room->sums;
    Py_ssize_t leaf = place->leaf, first = place->cell, next = place->more;
    for (Py_ssize_t chunk = 0; chunk < chunks; chunk++, leaf += LANES, first += cells) {
        const uint32_t *code = (const uint32_t *)leaves[CODE].buf + first;
        const double *share = (const double *)leaves[SHARE].buf + first, *value = (const double *)leaves[VALUE].buf + leaf;
        uint32_t most = 0;
        for (Py_ssize_t cell = 0; cell < cells; cell++)
            most = code[cell] > most ? code[cell] : most;
        if (most > last)
            return not_there();
        for (Py_ssize_t cell = 0; cell < cells; cell += 4) {
            seen[cell] = state[code[cell]];
            seen[cell + 1] = state[code[cell + 1]];
            seen[cell + 2] = state[code[cell + 2]];
            seen[cell + 3] = state[code[cell + 3]];
        }
        /* The next chunk is asked of memory while this one is worked on; behind the last, nobody minds. */
        for (Py_ssize_t cell = 0; cell < cells; cell += 8)
            __builtin_prefetch((const void *)((uintptr_t)share + (size_t)(cells + cell) * sizeof(double)));
        for (; next < steps; next++) {
            const Py_ssize_t cell = more_cell[next] - first;
            if (cell < 0 || cell >= cells || more[next] > last)
                break;
            seen[cell] &= state[more[next]] | ~(State)1;
        }
        for (Py_ssize_t cell = 0; cell < cells; cell++)
            holds[cell] = -(int64_t)(seen[cell] & 1);
        for (Py_ssize_t cell = 0; cell < cells; cell++)
            seen[cell] &= ~(State)1;
        worths(width, share, holds, value, time, weight, room->far, given);
        for (Py_ssize_t cell = 0; cell < cells; cell += SUMS)
            for (int sum = 0; sum < SUMS; sum++)
                sums[seen[cell + sum] + (State)sum] += given[cell + sum];
    }
    *place = (Place){leaf, first, next, place->node + (width + 1) / 2};
    return 1;
}

/* Whether the arrays hold the leaves that they are said to hold; how many columns the widest has. */
static int
leaves_fit(const Py_buffer *leaves, Py_ssize_t *widest)
{
    const int64_t real = sizeof(double), whole = sizeof(int32_t), most = INT32_MAX;
    const int32_t *shape = leaves[SHAPE].buf;
    int64_t values = 0, cells = 0, nodes = 0;
    *widest = 0;
    for (Py_ssize_t block = 0; block < leaves[SHAPE].len / (2 * whole); block++) {
        const int64_t chunks = shape[2 * block], width = shape[2 * block + 1];
        if (chunks < 0 || width < 1 || chunks * LANES > (most - cells) / width)
            return 0;
        values += chunks * LANES;
        cells += chunks * LANES * width;
        nodes += (width + 1) / 2;
        *widest = width > *widest ? (Py_ssize_t)width : *widest;
    }
    return leaves[VALUE].len / real >= values && leaves[CODE].len / whole >= cells && leaves[SHARE].len / real >= cells
           && leaves[TIME].len / real >= nodes && leaves[WEIGHT].len / real >= nodes
           && leaves[MORE_CELL].len / whole >= leaves[MORE].len / whole;
}

/* Make room, each part of which begins with a line of the cache: a vector over two lines is twice as dear. */
static void *
make_room(Py_ssize_t widest, Py_ssize_t columns, Room *room)
{
    const uint64_t cells = (uint64_t)widest * LANES;
    const uint64_t sizes[] = {
        2 * ((uint64_t)room->splits + 1) * sizeof(State), cells * sizeof(State), cells * sizeof(int64_t),
        cells * sizeof(double), 2 * (uint64_t)widest * sizeof(Four), (uint64_t)columns * SUMS * sizeof(double),
    };
    uint64_t all = 0, begin[6];
    for (int part = 0; part < 6; part++) {
        begin[part] = all;
        all += (sizes[part] + 63) & ~(uint64_t)63;
    }
    char *memory = all > PY_SSIZE_T_MAX - 63 ? NULL : PyMem_Malloc((size_t)all + 63);
    if (memory == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    char *line = memory + (-(uintptr_t)memory & 63);
    *room = (Room){
        room->splits, (State *)(line + begin[0]), (State *)(line + begin[1]), (int64_t *)(line + begin[2]),
        (double *)(line + begin[3]), (double *)(line + begin[4]), (double *)(line + begin[5]),
    };
    memset(room->sums, 0, (size_t)sizes[5]);
    return memory;
}

/* Explain a row by arrays of which nothing is known but that they are there. */
static int
take_apart(const Py_buffer *row, const Py_buffer *splits, PyObject *turned, const Py_buffer *leaves, const Py_buffer *out)
{
    const Py_ssize_t real = (Py_ssize_t)sizeof(double), whole = (Py_ssize_t)sizeof(int32_t), columns = out->len / real;
    const int32_t *shape = leaves[SHAPE].buf;
    double *total = out->buf;
    Room room = {.splits = splits[THRESHOLD].len / real};
    Place place = {0, 0, 0, 0};
    Py_ssize_t widest;
    if (row->len / real < columns || splits[END].len / whole < columns || splits[MISSING_LEFT].len < room.splits
        || columns > INT32_MAX / SUMS || room.splits > INT32_MAX / 2 || !leaves_fit(leaves, &widest)
        || (columns == 0 && widest > 0)) /* padding names the first column */
        return too_short();
    void *memory = make_room(widest, columns, &room);
    int done = memory != NULL && turn(splits, row->buf, turned, columns, &room);
    for (Py_ssize_t block = 0; done && block < leaves[SHAPE].len / (2 * whole); block++)
        done = add_block(leaves, shape[2 * block], shape[2 * block + 1], &room, &place);
    if (done && place.more < leaves[MORE].len / whole)
        done = not_there();
    for (Py_ssize_t column = 0; done && column < columns; column++) {
        const double *sum = room.sums + column * SUMS;
        total[column] = sum[0];
        for (int also = 1; also < SUMS; also++)
            total[column] += sum[also];
    }
    PyMem_Free(memory);
    return done;
}

PyDoc_STRVAR(shapley_doc,
"shapley(row, splits, turned, leaves, out)\n\n"
"Write the Shapley value of each column to `out`; `turned` are the splits by category that the row meets, each with\n"
"whether it goes left there.");

static PyObject *
shapley(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *split_arrays, *turned, *leaf_arrays;
    Py_buffer row, out, splits[SPLIT_ARRAYS] = {{0}}, leaves[LEAF_ARRAYS] = {{0}};
    if (!PyArg_ParseTuple(args, "y*OO!Ow*", &row, &split_arrays, &PyList_Type, &turned, &leaf_arrays, &out))
        return NULL;
    const int done = is_aligned(&row) && is_aligned(&out) && take(split_arrays, splits, SPLIT_ARRAYS) && take(leaf_arrays, leaves, LEAF_ARRAYS)
                     && take_apart(&row, splits, turned, leaves, &out);
    let_go(splits, SPLIT_ARRAYS);
    let_go(leaves, LEAF_ARRAYS);
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
#define FORMAT 4

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
