/* Load over keep-alive connections to 127.0.0.1, one thread: at a constant rate, or as fast as answers come; one JSON line at the end.

   load PORT CONNECTIONS KEYS_FILE PATH RATE SECONDS REQUESTS SKIP DIFFERING HOLD

   RATE       calls a second; each has its due time, and its latency counts from then, also where it waits for a free connection
              (else a stalled proxy would be asked less, and look better for it). 0: a closed loop
   SECONDS    how long calls are made        REQUESTS  or how many, if not 0        SKIP  keys of the file to leave out at its start
   DIFFERING  1: a traceparent and a path of its own for each call
   HOLD       1: each connection makes one call, one after the other; then all stay open until standard input ends

   Bodies are taken off the socket without being copied. An answer needs a Content-Length. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 8192
#define LINGER_NS 2000000000LL

typedef struct {
    int fd, busy, filled, status;
    int64_t due_ns, body_left;
    char head[HEAD_BYTES];
} Connection;

static struct { int port, connections, differing, hold; const char *path; double rate, seconds; long requests, skip; } want;
static struct { long sent, done, timed, refused, broken, late; int64_t bytes; } seen;
static Connection *all, **idle;
static int idle_count, epoll_fd;
static char **keys;
static long key_count;
static uint32_t *latencies;
static long latency_room;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *why)
{
    fprintf(stderr, "%s: %s\n", why, strerror(errno));
    exit(1);
}

static void read_keys(const char *name)
{
    FILE *file = fopen(name, "r");
    char line[512];
    long room = 0;
    if (!file) fail(name);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        if (key_count == room) keys = realloc(keys, (room = room ? room * 2 : 1024) * sizeof *keys);
        keys[key_count++] = strdup(line);
    }
    fclose(file);
    if (!key_count) fail("no keys");
}

static void open_connection(Connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(want.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->filled = c->busy = 0;
    c->body_left = -1;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static void remember(int64_t ns)
{
    if (seen.timed == latency_room) latencies = realloc(latencies, (latency_room = latency_room ? latency_room * 2 : 65536) * sizeof *latencies);
    latencies[seen.timed++] = ns / 1000 > UINT32_MAX ? UINT32_MAX : ns / 1000;
}

static void lost(Connection *c)
{
    close(c->fd);
    if (c->busy) seen.broken++;
    open_connection(c);
    idle[idle_count++] = c;
}

static void ask(Connection *c, int64_t due_ns)
{
    char text[1024];
    const char *key = keys[(want.skip + seen.sent) % key_count];
    int size;
    if (want.differing)
        size = snprintf(text, sizeof text, "GET %s/%lx?at=%lx HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-API-Key: %s\r\n"
                        "traceparent: 00-%016lx%016lx-%016lx-01\r\n\r\n", want.path, seen.sent, seen.sent, want.port, key,
                        (long)due_ns, seen.sent, seen.sent + 1);
    else
        size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-API-Key: %s\r\n\r\n", want.path, want.port, key);
    seen.sent++;
    c->busy = 1;
    c->due_ns = due_ns;
    if (send(c->fd, text, size, MSG_NOSIGNAL) != size) lost(c);
}

/* Reads what is there; 1 when the answer is whole, -1 when the connection is lost. */
static int hear(Connection *c)
{
    for (;;) {
        if (c->body_left < 0) {
            ssize_t n = recv(c->fd, c->head + c->filled, HEAD_BYTES - 1 - c->filled, MSG_DONTWAIT);
            if (n < 0 && errno == EAGAIN) return 0;
            if (n <= 0 || !c->busy) return -1;
            c->filled += n;
            c->head[c->filled] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) {
                if (c->filled == HEAD_BYTES - 1) return -1;
                continue;
            }
            char *length = strcasestr(c->head, "\r\nContent-Length:");
            if (!length || length > end || sscanf(c->head, "HTTP/1.1 %d", &c->status) != 1) return -1;
            int64_t body = atoll(length + 17);
            seen.bytes += body;
            c->body_left = body - (c->filled - (end + 4 - c->head));
        } else {
            ssize_t n = recv(c->fd, c->head, c->body_left > 1 << 20 ? 1 << 20 : c->body_left, MSG_DONTWAIT | MSG_TRUNC);
            if (n < 0 && errno == EAGAIN) return 0;
            if (n <= 0) return -1;
            c->body_left -= n;
        }
        if (c->body_left < 0) return -1; /* more than was announced */
        if (c->body_left == 0) {
            c->filled = c->busy = 0;
            c->body_left = -1;
            return 1;
        }
    }
}

static void answered(Connection *c)
{
    remember(now_ns() - c->due_ns);
    seen.done++;
    if (c->status >= 400) seen.refused++;
    idle[idle_count++] = c;
}

static int64_t due_of(long call, int64_t begun) { return begun + (int64_t)(call * 1e9 / want.rate); }

static int more(int64_t now, int64_t begun, int64_t until)
{
    if (want.requests) return seen.sent < want.requests;
    return (want.rate ? due_of(seen.sent, begun) : now) < until;
}

static void run(int64_t begun, int64_t until)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event);
    for (;;) {
        int64_t now = now_ns();
        int waiting = 0;
        while (more(now, begun, until)) {
            int64_t due = want.rate ? due_of(seen.sent, begun) : now;
            if (due > now) {
                struct itimerspec at = {.it_value = {due / 1000000000, due % 1000000000}};
                timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
                break;
            }
            if (!idle_count) {
                waiting = 1;
                break;
            }
            ask(idle[--idle_count], due);
            if (want.rate && now - due > 1000000) seen.late++;
        }
        if (!waiting && !more(now, begun, until) && idle_count == want.connections) break;
        if (!want.requests && now > until + LINGER_NS) break;
        int count = epoll_wait(epoll_fd, events, 256, 100);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            uint64_t times;
            if (!c) {
                if (read(timer, &times, sizeof times) < 0 && errno != EAGAIN) fail("timerfd");
                continue;
            }
            int idle_before = !c->busy, state = hear(c);
            if (state > 0) answered(c);
            else if (state < 0 && idle_before) { /* an idle one closed: another takes its place among the idle */
                close(c->fd);
                open_connection(c);
            } else if (state < 0) lost(c);
        }
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(double share) { return seen.timed ? latencies[(long)((seen.timed - 1) * share)] : 0; }

/* It waited until now at least, and counts so. */
static void unanswered(int64_t due_ns, int64_t ended)
{
    seen.broken++;
    remember(ended - due_ns);
}

static void hold(void)
{
    for (int i = 0; i < want.connections; i++) {
        open_connection(&all[i]);
        ask(&all[i], now_ns());
        struct epoll_event event;
        int state = 0;
        while (!state) {
            if (epoll_wait(epoll_fd, &event, 1, 5000) < 1) fail("no answer");
            state = event.data.ptr == &all[i] ? hear(&all[i]) : 0;
        }
        if (state < 0) fail("a connection was lost");
        remember(now_ns() - all[i].due_ns);
        seen.done++;
        if (all[i].status >= 400) seen.refused++;
    }
}

int main(int argc, char **argv)
{
    if (argc != 11) return fprintf(stderr, "ten arguments, as load.c says\n"), 2;
    want.port = atoi(argv[1]);
    want.connections = atoi(argv[2]);
    read_keys(argv[3]);
    want.path = argv[4];
    want.rate = atof(argv[5]);
    want.seconds = atof(argv[6]);
    want.requests = atol(argv[7]);
    want.skip = atol(argv[8]);
    want.differing = atoi(argv[9]);
    want.hold = atoi(argv[10]);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    all = calloc(want.connections, sizeof *all);
    idle = calloc(want.connections, sizeof *idle);
    int64_t begun = now_ns();
    if (want.hold) hold();
    else {
        for (int i = 0; i < want.connections; i++) {
            open_connection(&all[i]);
            idle[idle_count++] = &all[i];
        }
        begun = now_ns();
        run(begun, begun + (int64_t)(want.seconds * 1e9));
    }
    int64_t ended = now_ns();
    for (int i = 0; i < want.connections && !want.hold; i++)
        if (all[i].busy) unanswered(all[i].due_ns, ended);
    for (; want.rate && !want.requests && more(ended, begun, begun + (int64_t)(want.seconds * 1e9)); seen.sent++)
        unanswered(due_of(seen.sent, begun), ended);
    qsort(latencies, seen.timed, sizeof *latencies, by_size);
    printf("{\"requests\":%ld,\"duration_us\":%ld,\"bytes\":%ld,\"refused\":%ld,\"broken\":%ld,\"late\":%ld,\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u}\n",
           seen.done, (long)((ended - begun) / 1000), (long)seen.bytes, seen.refused, seen.broken, seen.late, percentile(.5), percentile(.99), percentile(1));
    fflush(stdout);
    if (want.hold) while (getchar() != EOF) {}
    return 0;
}
