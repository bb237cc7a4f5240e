/*
 * An application on libfcgi's own responder, FCGX: a peer whose FastCGI was written by neither
 * php-fpm nor us.
 *
 *     fcgx_responder SOCKET
 *
 * What it does is chosen by the request's QUERY_STRING:
 *
 *     echo     sends the body back
 *     params   lists the params, one a line
 *     defer    answers, writes the end-of-response marker, waits until the file named in the param
 * GATE can be locked, and reports one task error    writes to the error stream, and ends with
 * status 3
 */
#include <fcgiapp.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void respond_echo(FCGX_Request *request)
{
    char buffer[32768];
    int n;
    FCGX_FPrintF(request->out, "Content-Type: application/octet-stream\r\n\r\n");
    while ((n = FCGX_GetStr(buffer, sizeof(buffer), request->in)) > 0) {
        FCGX_PutStr(buffer, n, request->out);
    }
}

static void respond_params(FCGX_Request *request)
{
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\n\r\n");
    for (char **param = request->envp; *param != NULL; param++) {
        FCGX_FPrintF(request->out, "%s\n", *param);
    }
}

static void wait_for_gate(const char *path)
{
    int gate = path != NULL ? open(path, O_RDONLY) : -1;
    if (gate >= 0) {
        flock(gate, LOCK_SH);
        close(gate);
    }
}

static void respond_defer(FCGX_Request *request)
{
    const char *token = FCGX_GetParam("DEFERD_TOKEN", request->envp);
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\n\r\nanswered by %d\n", (int)getpid());
    if (token == NULL) {
        return;
    }
    FCGX_FPrintF(request->out,
                 "\x1e"
                 "DEFERD/1 END %s\n",
                 token);
    FCGX_FPrintF(request->out, "{\"event\":\"begin\",\"pid\":%d,\"tasks\":[\"gated\"]}\n",
                 (int)getpid());
    FCGX_FPrintF(request->out, "{\"event\":\"start\",\"task\":0}\n");
    FCGX_FFlush(request->out);
    wait_for_gate(FCGX_GetParam("GATE", request->envp));
    FCGX_FPrintF(request->out, "{\"event\":\"done\",\"task\":0,\"ms\":1}\n{\"event\":\"end\"}\n");
}

static void respond_error(FCGX_Request *request)
{
    FCGX_FPrintF(request->err, "a complaint");
    FCGX_FFlush(request->err);
    FCGX_FPrintF(request->out, "Status: 500 Internal Server Error\r\n\r\nno luck\n");
    FCGX_SetExitStatus(3, request->out);
}

int main(int argc, char **argv)
{
    FCGX_Request request;
    if (argc != 2 || FCGX_Init() != 0) {
        return EXIT_FAILURE;
    }
    int listener = FCGX_OpenSocket(argv[1], 64);
    if (listener < 0 || FCGX_InitRequest(&request, listener, 0) != 0) {
        return EXIT_FAILURE;
    }
    fprintf(stderr, "ready\n");
    while (FCGX_Accept_r(&request) == 0) {
        const char *what = FCGX_GetParam("QUERY_STRING", request.envp);
        if (what != NULL && strcmp(what, "echo") == 0) {
            respond_echo(&request);
        } else if (what != NULL && strcmp(what, "defer") == 0) {
            respond_defer(&request);
        } else if (what != NULL && strcmp(what, "error") == 0) {
            respond_error(&request);
        } else {
            respond_params(&request);
        }
        FCGX_Finish_r(&request);
    }
    return EXIT_SUCCESS;
}
