# deferd: `make help` lists the targets.

VERSION := 0.1.0

PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
CC      ?= cc
# Debian's, where apt puts its modules: another python3 may stand before it on PATH.
PYTHON  ?= /usr/bin/python3

LIBS     := libuv jansson
CFLAGS   ?= -O2 -g
override CFLAGS += -std=c17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
                   -Wpointer-arith -Wformat=2 -Wno-format-nonliteral -fno-common -D_GNU_SOURCE \
                   $(if $(CI),-Werror)
CPPFLAGS += -Iinclude -DDEFERD_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
LDLIBS   += $(shell pkg-config --libs $(LIBS) 2>/dev/null)

SRC  := $(wildcard src/*/*.c)
OBJ  := $(SRC:%.c=$(BUILD)/%.o)
CORE := $(filter-out $(BUILD)/src/process/main.o,$(OBJ))

.PHONY: all
all: $(BUILD)/deferd ## build build/deferd

$(BUILD)/deferd: $(OBJ)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJ:.o=.d)
