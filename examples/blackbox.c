/* A loss that only this program can evaluate, judged over HTTP with nothing but libc.
 *
 *     cc -o blackbox examples/blackbox.c -lm && ./blackbox 127.0.0.1 8000
 *
 * In the safetensors format: 8 bytes with the length of a JSON header, little-endian; the header; the numbers. The plan
 * is text in the header of the answer, and is copied into the header of the next request without being read. */
#include <math.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { N = 4 };

static double loss(const double *w)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += sin(w[i]) * w[(i + N - 1) % N];
    return sum;
}

static void gradient(const double *w, double *g)
{
    for (int i = 0; i < N; i++)
        g[i] = cos(w[i]) * w[(i + N - 1) % N] + sin(w[(i + 1) % N]);
}

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, port, &hints, &found))
        die("no such host");
    int s = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (s < 0 || connect(s, found->ai_addr, found->ai_addrlen))
        die("cannot connect");
    freeaddrinfo(found);
    return s;
}

static void put(int s, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        ssize_t n = write(s, at, size);
        if (n <= 0)
            die("cannot send");
        at += n, size -= (size_t)n;
    }
}

/* POST a header and N numbers; the body of the answer, with a 0 behind it, and its size. */
static char *post(char **argv, const char *path, const char *accept, const char *header, const double *w, size_t *size)
{
    char head[512];
    uint64_t length = strlen(header);
    int s = dial(argv[1], argv[2]);
    snprintf(head, sizeof head,
             "POST %s HTTP/1.0\r\nHost: %s\r\nContent-Type: application/vnd.safetensors\r\nAccept: %s\r\n"
             "Content-Length: %zu\r\n\r\n",
             path, argv[1], accept, sizeof length + (size_t)length + N * sizeof *w);
    put(s, head, strlen(head));
    put(s, &length, sizeof length); /* on a little-endian machine, as is taken for granted of the numbers too */
    put(s, header, length);
    put(s, w, N * sizeof *w);
    size_t have = 0, room = 1 << 16;
    char *all = malloc(room);
    for (ssize_t n; all && (n = read(s, all + have, room - have - 1)) > 0;)
        if ((have += (size_t)n) + 1 == room)
            all = realloc(all, room *= 2);
    close(s);
    if (!all)
        die("no memory");
    all[have] = 0;
    char *body = strstr(all, "\r\n\r\n");
    if (!body || !strstr(all, " 200 "))
        die(body ? body : "no answer");
    body += 4;
    *size = have - (size_t)(body - all);
    return body;
}

int main(int argc, char **argv)
{
    double w[N] = {0.5, -1.5, 2.0, 0.25}, g[N];
    size_t size;
    if (argc != 3)
        die("usage: blackbox host port");
    char *answer = post(argv, "/v1/plan", "application/vnd.safetensors",
                        "{\"__metadata__\":{\"request\":\"{\\\"seed\\\":1}\"},"
                        "\"point/w\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[0,32]}}",
                        w, &size);
    uint64_t length;
    memcpy(&length, answer, sizeof length);
    const char *data = answer + sizeof length + length;
    size_t points = (size - (size_t)(data - answer)) / sizeof w;

    char *plan = strstr(answer + sizeof length, "\\\"plan\\\":"), *end;
    if (!plan)
        die("no plan");
    plan += strlen("\\\"plan\\\":"), end = plan;
    for (int depth = 0; (depth += (*end == '{') - (*end == '}')) > 0;)
        end++;
    int text = (int)(end + 1 - plan);

    char *header = malloc((size_t)text + 32 * points + 512), *at = header;
    if (!header)
        die("no memory");
    at += sprintf(at, "{\"__metadata__\":{\"request\":\"{\\\"plan\\\":%.*s,\\\"losses\\\":[", text, plan);
    for (size_t i = 0; i < points; i++) {
        double x[N];
        memcpy(x, data + i * sizeof x, sizeof x);
        at += sprintf(at, "%s%.17g", i ? "," : "", loss(x));
    }
    sprintf(at, "]}\"},\"candidate/w\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[0,32]}}");

    gradient(w, g);
    for (int turn = 0; turn < 2; turn++, g[2] *= 1.0001) {
        char *report = post(argv, "/v1/judge", "application/json", header, g, &size);
        char *summary = strstr(report, "\"summary\":\"");
        if (!summary)
            die("no summary");
        summary += strlen("\"summary\":\"");
        printf("%.*s\n", (int)strcspn(summary, "\""), summary);
    }
    return 0;
}
