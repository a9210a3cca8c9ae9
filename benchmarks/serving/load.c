/* The client that load.py starts: sends requests to one server by a timetable, and writes down what became of each.

   load PORT CONNECTIONS PATIENCE REQUESTS PHASES [MARK...] > ROWS

   REQUESTS is a file: for each request its length (four bytes of this machine) and its bytes, which are sent in turn.
   PHASES is SECONDSxRATE, separated by commas. At a rate of 0 each connection asks again when it was answered. At any
   other, requests leave by the timetable whatever the server does: what finds no connection free waits in its order, and
   what it took counts from the moment that the timetable names. ROWS has one row for each request whose moment came.

   What this process takes of a machine, a server on the same machine has not: hence C, and one thread that sleeps. */

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOST = -1, BROKEN = 0 }; /* in place of a status */

/* Requests due within this are sent together, or the client would only fall asleep and wake up. */
static const double TICK_SECONDS = 0.0003;

struct row {
    double due, took; /* seconds; due since the first phase began */
    int32_t status, kind; /* kind: which mark stood in the body of a 200, from 1; 0 for none */
};

struct request {
    const char *bytes;
    uint32_t length;
};

struct connection {
    int fd; /* -1: to be opened when it is needed */
    bool opening; /* nothing has been sent on it yet */
    long row; /* of the request on its way; -1: none */
    size_t sent, have, room;
    char *answer;
};

struct phase {
    double seconds, rate;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static struct request *requests;
static size_t request_count;
static struct connection *connections;
static int connection_count, poller;
static int *idle, idle_first, idle_count; /* a ring: who has been idle for longest comes first */
static struct row *rows;
static long row_count, row_room, row_sent, row_done;
static char **marks;
static double began;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *need(void *memory) {
    if (!memory) die("memory");
    return memory;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec - began;
}

static void add_row(double due) {
    if (row_count == row_room) rows = need(realloc(rows, (size_t)(row_room = 2 * row_room + 4096) * sizeof *rows));
    rows[row_count++] = (struct row){.due = due, .status = LOST};
}

static void set_idle(struct connection *c) {
    idle[(idle_first + idle_count++) % connection_count] = (int)(c - connections);
}

static void shut(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void watch(struct connection *c, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, how, c->fd, &event)) die("epoll_ctl");
}

static bool reopen(struct connection *c) {
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->opening = true;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) return false;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    return true;
}

/* Its request is done with, one way or another. */
static void finish(struct connection *c, int status, int kind) {
    struct row *row = &rows[c->row];
    row->took = now() - row->due;
    row->status = status;
    row->kind = kind;
    c->row = -1;
    row_done++;
}

/* The connection ended with its request on the way. One that could not even be opened is not tried again. */
static void breaks(struct connection *c) {
    bool refused = c->opening;
    finish(c, BROKEN, 0);
    shut(c);
    if (!refused) set_idle(c);
}

static void go_on_sending(struct connection *c) {
    const struct request *request = &requests[(size_t)c->row % request_count];
    ssize_t sent = send(c->fd, request->bytes + c->sent, request->length - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        breaks(c);
        return;
    }
    bool had_to_wait = c->sent > 0 || c->opening;
    if (sent > 0) {
        c->opening = false;
        c->sent += (size_t)sent;
    }
    if (c->sent < request->length)
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    else if (had_to_wait)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void ask(struct connection *c) {
    c->row = row_sent++;
    c->sent = c->have = 0;
    if (c->fd < 0 && !reopen(c))
        breaks(c);
    else
        go_on_sending(c);
}

/* The value of a header of the head that ends at `end`; NULL where it has none. */
static const char *header(const char *line, const char *end, const char *name) {
    size_t length = strlen(name);
    while ((line = memmem(line, (size_t)(end - line), "\r\n", 2)) && (line += 2) < end)
        if ((size_t)(end - line) > length && !strncasecmp(line, name, length) && line[length] == ':')
            return line + length + 1 + strspn(line + length + 1, " \t");
    return NULL;
}

/* Where a chunked body ends; NULL while it has not. */
static const char *after_chunks(const char *at, const char *end) {
    const char *line;
    while ((line = memmem(at, (size_t)(end - at), "\r\n", 2))) {
        unsigned long size = strtoul(at, NULL, 16);
        if (!size) return (line = memmem(line, (size_t)(end - line), "\r\n\r\n", 4)) ? line + 4 : NULL;
        if ((size_t)(end - line) < size + 4) return NULL;
        at = line + 2 + size + 2;
    }
    return NULL;
}

/* Look whether the answer is whole; if so its request is done, and the connection free. */
static void look(struct connection *c, bool ended) {
    const char *body = memmem(c->answer, c->have, "\r\n\r\n", 4), *end = c->answer + c->have, *value;
    if (body) {
        const char *stop = ended ? end : NULL; /* without a length it lasts until the connection ends */
        const char *head_end = body + 2;
        body += 4;
        if ((value = header(c->answer, head_end, "content-length"))) {
            size_t length = strtoul(value, NULL, 10);
            stop = (size_t)(end - body) >= length ? body + length : NULL;
        } else if ((value = header(c->answer, head_end, "transfer-encoding")) && !strncasecmp(value, "chunked", 7)) {
            stop = after_chunks(body, end);
        }
        if (stop && !strncmp(c->answer, "HTTP/1.", 7)) {
            int status = (int)strtol(c->answer + 9, NULL, 10), kind = 0;
            for (int mark = 0; status == 200 && !kind && marks[mark]; mark++)
                if (memmem(body, (size_t)(stop - body), marks[mark], strlen(marks[mark]))) kind = mark + 1;
            value = header(c->answer, head_end, "connection");
            finish(c, status, kind);
            if (ended || stop < end || (value && !strncasecmp(value, "close", 5))) shut(c);
            set_idle(c);
            return;
        }
    }
    if (ended) breaks(c);
}

static void take(struct connection *c) {
    if (c->room - c->have < 4096) c->answer = need(realloc(c->answer, (c->room = 2 * c->room + 8192) + 1));
    ssize_t got = recv(c->fd, c->answer + c->have, c->room - c->have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (c->row < 0) {
        shut(c); /* who waits for nothing hears nothing but an end */
        return;
    }
    if (got > 0) c->have += (size_t)got;
    c->answer[c->have] = 0;
    if (got < 0)
        breaks(c);
    else
        look(c, got == 0);
}

static void open_all(void) {
    for (struct connection *c = connections; c < connections + connection_count; c++) {
        int error = 0;
        socklen_t size = sizeof error;
        if (!reopen(c)) die("connect");
        struct pollfd ready = {.fd = c->fd, .events = POLLOUT};
        poll(&ready, 1, 20000);
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        errno = error ? error : ETIMEDOUT;
        if (error || !(ready.revents & POLLOUT)) die("connect");
        c->opening = false;
        c->row = -1;
        set_idle(c);
    }
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    uint32_t length;
    if (!file) die(path);
    while (fread(&length, sizeof length, 1, file) == 1) {
        char *bytes = need(malloc(length));
        if (fread(bytes, 1, length, file) != length) die(path);
        requests = need(realloc(requests, (request_count + 1) * sizeof *requests));
        requests[request_count++] = (struct request){bytes, length};
    }
    fclose(file);
}

static void run(const struct phase *phase, const struct phase *last, double patience) {
    struct epoll_event events[256];
    double begins = 0; /* of the phase */
    long number = 0; /* of the next request in it */
    for (;;) {
        double time = now(), next = begins + patience;
        while (phase < last) {
            double ends = begins + phase->seconds;
            next = phase->rate > 0 ? begins + (double)number / phase->rate : ends;
            if (next >= ends && time >= ends) {
                begins = ends;
                number = 0;
                phase++;
                next = begins + patience;
            } else if (next < ends && next <= time) {
                add_row(next);
                number++;
            } else {
                next = next < ends ? next : ends;
                break;
            }
        }
        bool asks_again = phase < last && phase->rate <= 0;
        while (idle_count && (asks_again || row_sent < row_count)) {
            struct connection *c = &connections[idle[idle_first]];
            idle_first = (idle_first + 1) % connection_count;
            idle_count--;
            if (row_sent == row_count) add_row(now());
            ask(c);
        }
        if (phase == last && (row_done == row_count || time > next)) return;
        double wait = next - time > TICK_SECONDS ? next - time : TICK_SECONDS;
        struct timespec most = {.tv_sec = (time_t)wait, .tv_nsec = (long)(1e9 * (wait - (double)(time_t)wait))};
        int count = epoll_pwait2(poller, events, 256, &most, NULL);
        if (count < 0 && errno != EINTR) die("epoll_pwait2");
        for (int at = 0; at < count; at++) {
            struct connection *c = events[at].data.ptr;
            if (events[at].events & EPOLLOUT)
                go_on_sending(c);
            else
                take(c);
        }
    }
}

int main(int argc, char **argv) {
    struct phase phases[16];
    int phase_count = 0;
    if (argc < 6) {
        fprintf(stderr, "usage: load PORT CONNECTIONS PATIENCE REQUESTS PHASES [MARK...] > ROWS\n");
        return 2;
    }
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection_count = atoi(argv[2]);
    read_requests(argv[4]);
    marks = argv + 6; /* ends with NULL */
    for (char *text = strtok(argv[5], ","); text && phase_count < 16; text = strtok(NULL, ","), phase_count++)
        if (sscanf(text, "%lfx%lf", &phases[phase_count].seconds, &phases[phase_count].rate) != 2) die(text);
    connections = need(calloc((size_t)connection_count, sizeof *connections));
    idle = need(calloc((size_t)connection_count, sizeof *idle));
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    open_all();
    began = now();
    run(phases, phases + phase_count, atof(argv[3]));
    if (fwrite(rows, sizeof *rows, (size_t)row_count, stdout) != (size_t)row_count || fflush(stdout)) die("rows");
    return 0;
}
