/* WebSocket echo, both ends, as lean as they can be (RFC 6455); frames of less than 126 bytes, over 127.0.0.1.

   echo serve PORT
   echo load PORT CONNECTIONS KEY SECONDS SIZE     one message under way on each connection; one JSON line at the end

   The client always sends the nonce of the RFC's example, so the server's answer to the handshake is a constant. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 8192

typedef struct { int fd, open, filled; int64_t sent_ns; unsigned char in[ROOM]; } Connection;

static int epoll_fd;
static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void fail(const char *why)
{
    fprintf(stderr, "%s: %s\n", why, errno ? strerror(errno) : "unexpected");
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static void watch(int fd, void *what)
{
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

/* Bytes of the whole frame at `at`, 0 where more must come. */
static int frame_size(const unsigned char *at, int there)
{
    if (there < 2) return 0;
    int size = 2 + (at[1] & 0x80 ? 4 : 0) + (at[1] & 0x7f);
    if ((at[1] & 0x7f) > 125) fail("a frame of more than 125 bytes");
    return there < size ? 0 : size;
}

/* The end of the head, 0 where more must come. */
static int head_size(Connection *c)
{
    unsigned char *end = memmem(c->in, c->filled, "\r\n\r\n", 4);
    return end ? (int)(end + 4 - c->in) : 0;
}

static int fill(Connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->filled, ROOM - c->filled, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 1;
    if (n <= 0) return 0;
    c->filled += n;
    return 1;
}

static void take(Connection *c, int size) { memmove(c->in, c->in + size, c->filled -= size); }

/* Sends back every whole message, unmasked; all of one read in one write. */
static int echo_back(Connection *c)
{
    unsigned char out[ROOM];
    int at = 0, made = 0, size;
    while ((size = frame_size(c->in + at, c->filled - at))) {
        unsigned char *frame = c->in + at;
        int length = frame[1] & 0x7f;
        if ((frame[0] & 0x0f) == 8 || !(frame[1] & 0x80)) return 0;
        out[made++] = frame[0];
        out[made++] = length;
        for (int i = 0; i < length; i++) out[made++] = frame[6 + i] ^ frame[2 + i % 4];
        at += size;
    }
    take(c, at);
    return !made || send(c->fd, out, made, MSG_NOSIGNAL) == made;
}

static int served(Connection *c)
{
    if (!fill(c)) return 0;
    if (!c->open) {
        int head = head_size(c);
        if (!head) return c->filled < ROOM;
        const char *plain = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        const char *answer = memmem(c->in, head, "Upgrade: websocket", 18) || memmem(c->in, head, "upgrade: websocket", 18) ? ANSWER : plain;
        if (send(c->fd, answer, strlen(answer), MSG_NOSIGNAL) < 0) return 0;
        c->open = answer == ANSWER;
        take(c, head);
    }
    return c->open ? echo_back(c) : 1;
}

static void serve(int port)
{
    struct sockaddr_in at = loopback(port);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) fail("listen");
    watch(listener, NULL);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll_fd, events, 64, -1);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0) continue;
                c = calloc(1, sizeof *c);
                c->fd = fd;
                watch(fd, c);
            } else if (!served(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}

static int message(unsigned char *out, int size)
{
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    out[0] = 0x82;
    out[1] = 0x80 | size;
    memcpy(out + 2, mask, 4);
    for (int i = 0; i < size; i++) out[6 + i] = ('a' + i % 26) ^ mask[i % 4];
    return 6 + size;
}

static void connect_as(Connection *c, int port, const char *key)
{
    struct sockaddr_in to = loopback(port);
    char text[512];
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    int size = snprintf(text, sizeof text, "GET /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-API-Key: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", port, key);
    if (send(c->fd, text, size, MSG_NOSIGNAL) != size) fail("send");
    while (!head_size(c)) {
        ssize_t n = recv(c->fd, c->in + c->filled, ROOM - c->filled, 0);
        if (n <= 0) fail("no answer to the handshake");
        c->filled += n;
    }
    if (memcmp(c->in, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "not upgraded: %.*s\n", (int)strcspn((char *)c->in, "\r\n"), c->in);
        exit(3);
    }
    take(c, head_size(c));
    watch(c->fd, c);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void load(int port, int connections, const char *key, double seconds, int size)
{
    Connection *all = calloc(connections, sizeof *all);
    unsigned char out[ROOM], expected[ROOM];
    int length = message(out, size);
    long done = 0, room = 1 << 16;
    uint32_t *latencies = malloc(room * sizeof *latencies);
    for (int i = 0; i < size; i++) expected[i] = 'a' + i % 26;
    for (int i = 0; i < connections; i++) connect_as(&all[i], port, key);
    int64_t begun = now_ns(), until = begun + (int64_t)(seconds * 1e9), now = begun;
    for (int i = 0; i < connections; i++) {
        all[i].sent_ns = begun;
        if (send(all[i].fd, out, length, MSG_NOSIGNAL) != length) fail("send");
    }
    while (now < until) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll_fd, events, 64, 5000);
        if (count < 1) fail("no echo within five seconds");
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (!fill(c)) fail("a connection was lost");
            int whole = frame_size(c->in, c->filled);
            if (!whole) continue;
            if (whole != c->filled || whole != size + 2 || memcmp(c->in + 2, expected, size)) fail("not the message that was sent");
            c->filled = 0;
            now = now_ns();
            if (done == room) latencies = realloc(latencies, (room *= 2) * sizeof *latencies);
            latencies[done++] = (now - c->sent_ns) / 1000;
            c->sent_ns = now;
            if (send(c->fd, out, length, MSG_NOSIGNAL) != length) fail("send");
        }
    }
    qsort(latencies, done, sizeof *latencies, by_size);
    printf("{\"messages\":%ld,\"duration_us\":%ld,\"p50_us\":%u,\"p99_us\":%u}\n", done, (long)((now - begun) / 1000),
           done ? latencies[done / 2] : 0, done ? latencies[(long)((done - 1) * .99)] : 0);
}

int main(int argc, char **argv)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
    else if (argc == 7 && !strcmp(argv[1], "load") && atoi(argv[6]) <= 125) load(atoi(argv[2]), atoi(argv[3]), argv[4], atof(argv[5]), atoi(argv[6]));
    else return fprintf(stderr, "as echo.c says\n"), 2;
    return 0;
}
