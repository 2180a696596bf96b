/* Load on a WebSocket server: what wrk is for HTTP, with a report that reads like wrk's.

   websocket_load echo|fanout PORT CONNECTIONS SECONDS BYTES

   echo: every connection sends a message and, when it has come back, the next. Counted are echoes, timed is each one.
   fanout: one connection sends a message and, when all of them have got it, the next one sends another. Counted are
   deliveries, timed is how long the last of them took.

   Messages shorter than 64 KiB are text, others binary. Everything that comes is compared with what has to come, and
   whatever else comes ends the run with 1; so it must be over before servers begin to send pings. Frames are masked
   once, before the clock starts. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, EVENTS = 256, SLOTS = 1 << 20, SLOT_NANOSECONDS = 1000 };

/* Key and answer are those of RFC 6455, section 1.3. */
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
static const char REQUEST[] =
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct client {
    int fd;
    int blocked;       /* the rest of its frame waits until the server has read some */
    size_t received;   /* of the frame that is arriving */
    size_t sent;       /* of the frame that is being sent; `question_length` when it is out */
    uint64_t answers;  /* whole ones, since the start */
    int64_t since;
};

static unsigned char *question, *answer;
static size_t question_length, answer_length;
static char buffer[BUFFER];
static uint32_t slots[SLOTS + 1];  /* latencies */
static uint64_t count, timed;
static int poller;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void fail(const char *what) {
    fprintf(stderr, "error: %s\n", what);
    exit(1);
}

static size_t head(unsigned char *frame, size_t length, int masked) {
    frame[0] = length < 65536 ? 0x81 : 0x82;
    int size = length < 126 ? 0 : length < 65536 ? 2 : 8;
    frame[1] = (masked ? 0x80 : 0) | (size == 0 ? (int)length : size == 2 ? 126 : 127);
    for (int i = 0; i < size; i++) frame[2 + i] = (unsigned char)((uint64_t)length >> 8 * (size - 1 - i));
    return 2 + size;
}

static void make_frames(size_t length) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    question = malloc(length + 14);
    answer = malloc(length + 10);
    if (!question || !answer) die("malloc");
    size_t at = head(question, length, 1), start = head(answer, length, 0);
    memcpy(question + at, mask, 4);
    for (size_t i = 0; i < length; i++) {
        answer[start + i] = 'a' + i % 26;
        question[at + 4 + i] = answer[start + i] ^ mask[i % 4];
    }
    question_length = at + 4 + length;
    answer_length = start + length;
}

/* Connect and upgrade, blocking; then only what is ready is read and written. */
static void open_client(struct client *client, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (send(client->fd, REQUEST, sizeof REQUEST - 1, 0) < 0) die("handshake");
    size_t length = 0;
    do {
        ssize_t got = recv(client->fd, buffer + length, 4095 - length, 0);
        if (got <= 0) die("handshake");
        length += got;
        buffer[length] = 0;
    } while (length < 4095 && !strstr(buffer, "\r\n\r\n"));
    if (strncmp(buffer, "HTTP/1.1 101", 12) || !strstr(buffer, ACCEPT)) {
        buffer[strcspn(buffer, "\r\n")] = 0;
        fail(buffer);
    }
    client->sent = question_length;
}

static void watch(struct client *client, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(poller, operation, client->fd, &event)) die("epoll_ctl");
}

static void send_rest(struct client *client) {
    size_t rest = question_length - client->sent;
    ssize_t done = send(client->fd, question + client->sent, rest, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0) {
        if (errno != EAGAIN) die("send");
        done = 0;
    }
    client->sent += done;
    int blocked = client->sent < question_length;
    if (blocked != client->blocked) watch(client, EPOLL_CTL_MOD, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
    client->blocked = blocked;
}

static void ask(struct client *client) {
    client->sent = 0;
    client->since = now();
    send_rest(client);
}

static void note(int64_t since) {
    int64_t slot = (now() - since) / SLOT_NANOSECONDS;
    slots[slot < SLOTS ? slot : SLOTS]++;
    timed++;
}

/* Read what has come; returns how many answers have become whole. */
static size_t receive(struct client *client) {
    size_t whole = 0;
    ssize_t got = recv(client->fd, buffer, BUFFER, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got < 0) die("recv");
    if (!got) fail("a connection has been closed");
    for (size_t at = 0; at < (size_t)got;) {
        size_t part = answer_length - client->received;
        if (part > got - at) part = got - at;
        if (memcmp(buffer + at, answer + client->received, part)) fail("another answer than expected");
        at += part;
        client->received += part;
        if (client->received == answer_length) {
            client->received = 0;
            whole++;
        }
    }
    return whole;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: %s echo|fanout PORT CONNECTIONS SECONDS BYTES\n", argv[0]);
        return 2;
    }
    int fanout = !strcmp(argv[1], "fanout"), number = atoi(argv[3]), sender = 0, missing = number;
    uint64_t questions = 1; /* of a fanout */
    struct client *clients = calloc(number, sizeof *clients);
    struct epoll_event events[EVENTS];
    if (!clients || (poller = epoll_create1(0)) < 0) die("start");
    make_frames(strtoul(argv[5], NULL, 10));
    for (int i = 0; i < number; i++) {
        open_client(&clients[i], atoi(argv[2]));
        watch(&clients[i], EPOLL_CTL_ADD, EPOLLIN);
    }
    double cpu = cpu_seconds();
    int64_t started = now(), end = started + (int64_t)(atof(argv[4]) * 1e9);
    for (int i = 0; i < (fanout ? 1 : number); i++) ask(&clients[i]);
    while (now() < end) {
        int ready = epoll_wait(poller, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (events[i].events & EPOLLOUT && client->sent < question_length) send_rest(client);
            if (!(events[i].events & ~EPOLLOUT)) continue;
            size_t whole = receive(client);
            if (!whole) continue;
            client->answers += whole;
            count += whole;
            if (whole > 1 || (fanout && client->answers > questions)) fail("more answers than questions");
            if (!fanout) {
                note(client->since);
                ask(client);
            } else if (!--missing) {
                note(clients[sender].since);
                sender = (sender + 1) % number;
                missing = number;
                questions++;
                ask(&clients[sender]);
            }
        }
    }
    double seconds = (now() - started) / 1e9;
    if (!count) fail("no answer");
    uint64_t seen = 0;
    size_t slot = 0;
    while (slot < SLOTS && (seen += slots[slot]) < 0.99 * timed) slot++;
    printf("Own CPU: %.2f\n", (cpu_seconds() - cpu) / seconds);
    printf("99%% %.3fms\nRequests/sec: %.2f\n", slot * (SLOT_NANOSECONDS / 1e6), count / seconds);
    return 0;
}
