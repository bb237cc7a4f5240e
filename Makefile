# deferd: `make help` lists the targets.

VERSION := 0.1.0

PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
CC      ?= cc
# Debian's, where apt puts its modules: another python3 may stand before it on PATH.
PYTHON  ?= /usr/bin/python3

LIBS     := libuv jansson inih libsystemd
CFLAGS   ?= -O2 -g
override CFLAGS += -std=c17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
                   -Wpointer-arith -Wformat=2 -Wno-format-nonliteral -fno-common -D_GNU_SOURCE \
                   $(if $(CI),-Werror)
CPPFLAGS += -Iinclude -DDEFERD_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
LDLIBS   += $(shell pkg-config --libs $(LIBS) 2>/dev/null)

# Assertions are for debug builds: make DEBUG=1, or make asan.
ifndef DEBUG
CPPFLAGS += -DNDEBUG
endif

SRC  := $(wildcard src/*/*.c)
OBJ  := $(SRC:%.c=$(BUILD)/%.o)
CTL  := $(filter $(BUILD)/src/ctl/%,$(OBJ))
MAIN := $(BUILD)/src/process/main.o $(BUILD)/src/ctl/main.o
CORE := $(filter-out $(MAIN),$(OBJ))

.PHONY: all
all: $(BUILD)/deferd $(BUILD)/deferctl ## build build/deferd and build/deferctl

$(BUILD)/deferd: $(filter-out $(CTL),$(OBJ))
	@echo "  link $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/deferctl: $(filter-out $(BUILD)/src/process/main.o,$(OBJ))
	@echo "  link $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJ:.o=.d)

# The status page is part of the program (.incbin).
$(BUILD)/src/control/asset.o: src/control/status.html

# --- tests ------------------------------------------------------------------------------------

SANITIZE  := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
UNIT      := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
FUZZ      := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TIME ?= 10
PYTEST    := $(PYTHON) -B -m pytest -p no:cacheprovider

.PHONY: test
test: deps ## run all tests: units, PHP, integration, and once more under ASan and UBSan
	$(MAKE) all
	$(MAKE) unit
	$(MAKE) unit-valgrind
	$(MAKE) php
	$(MAKE) integration
	$(MAKE) monitoring
	$(MAKE) asan

.PHONY: unit
unit: $(UNIT) ## run the C unit tests
	@set -e; for test in $(UNIT); do ./$$test; done

.PHONY: unit-valgrind
unit-valgrind: $(UNIT) ## run them under valgrind
	@set -e; for test in $(UNIT); do \
	    echo "valgrind $$test"; \
	    valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=all \
	        --errors-for-leak-kinds=all ./$$test; done

$(UNIT): $(wildcard tests/unit/*.h)
$(FUZZ): $(wildcard tests/fuzz/*.h tests/unit/*.h)

$(BUILD)/tests/unit/%: tests/unit/%.c $(CORE)
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@$(CC) $(CPPFLAGS) -Itests/unit $(CFLAGS) $(LDFLAGS) -o $@ $(filter-out %.h,$^) $(LDLIBS) -lcmocka

# What the PHP package's tests cover, and how much of it they have to, in percent of its lines.
COVERAGE  := $(abspath $(BUILD)/coverage)
COVERED   := 100

.PHONY: php
php: deps php/vendor/autoload.php ## check the PHP package: PHPUnit with coverage of lines and branches, PHPStan, PSR-12
	rm -rf $(COVERAGE) && mkdir -p $(COVERAGE)
	cd php && DEFERD_COVERAGE=$(COVERAGE) php -d pcov.directory=src vendor/bin/phpunit --coverage-php $(COVERAGE)/phpunit.cov
	cd php && php -d pcov.directory=src tests/coverage.php $(COVERAGE) $(COVERED)
	cd php && vendor/bin/phpstan analyse --no-progress --memory-limit=1G
	cd php && vendor/bin/phpcs -q
	$(MAKE) php-branches

# pcov knows lines only; Xdebug knows branches, and is slow, so only these programs have it.
.PHONY: php-branches
php-branches: deps php/vendor/autoload.php ## the same with Xdebug: does PHPUnit take every branch?
	rm -rf $(BUILD)/branches && mkdir -p $(BUILD)/branches
	tests/xdebug.sh $(BUILD)/xdebug
	cd php && DEFERD_COVERAGE=$(abspath $(BUILD)/branches) PHP_INI_SCAN_DIR=:$(abspath $(BUILD)/xdebug) \
	    vendor/bin/phpunit --bootstrap tests/collect.php --exclude-group not-with-xdebug
	cd php && php tests/branch-coverage.php $(abspath $(BUILD)/branches) tests/branches-not-seen.txt

# What the package's checks need. No versions are locked: it is to work with what an application has.
php/vendor/autoload.php: php/composer.json
	cd php && COMPOSER_ALLOW_SUPERUSER=1 composer update --no-interaction --no-progress
	touch $@

.PHONY: integration
integration: all ## run the tests with real nginx and php-fpm
	DEFERD_BIN=$(abspath $(BUILD)/deferd) $(PYTEST) tests/integration

.PHONY: monitoring
monitoring: PACKAGES += chromium python3-yaml
monitoring: deps ## the status page in Chromium; metrics and rules with Prometheus's promtool
	$(MAKE) all
	PROMTOOL="$$(sh tests/promtool.sh $(abspath $(BUILD)/promtool))" \
	    DEFERD_BIN=$(abspath $(BUILD)/deferd) $(PYTEST) -m monitoring tests/integration

.PHONY: metrics-doc
metrics-doc: all ## write docs/metrics.md from the list of metrics
	$(BUILD)/deferd --print-metrics >docs/metrics.md

.PHONY: frameworks-doc
frameworks-doc: all ## write docs/frameworks.md: what each framework's application does behind deferd
	$(PYTHON) -B tests/frameworks/table.py >$(BUILD)/frameworks.md
	mv $(BUILD)/frameworks.md docs/frameworks.md

.PHONY: asan
asan: ## run units and integration tests under ASan and UBSan
	$(MAKE) BUILD=$(BUILD)/asan DEBUG=1 CFLAGS="-O1 -g $(SANITIZE)" all unit
	DEFERD_BIN=$(abspath $(BUILD)/asan/deferd) DEFERD_SANITIZED=1 $(PYTEST) tests/integration

.PHONY: valgrind
valgrind: all ## run the integration tests that load little under valgrind (takes minutes)
	DEFERD_BIN=$(abspath tests/valgrind.sh) DEFERD_SANITIZED=1 \
	    $(PYTEST) tests/integration -k "not endurance and not soak and not load and not resources"

.PHONY: fuzz
fuzz: $(FUZZ) ## run each fuzzer for FUZZ_TIME seconds (needs clang)
	@set -e; for fuzz in $(FUZZ); do \
	    echo "$$fuzz"; ./$$fuzz -max_total_time=$(FUZZ_TIME) -artifact_prefix=$(BUILD)/; done

$(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(filter-out src/process/main.c src/ctl/main.c,$(SRC))
	@mkdir -p $(@D)
	@echo "  cc   $<"
	@clang $(CPPFLAGS) -O1 -g -std=c17 -D_GNU_SOURCE \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $(filter-out %.h,$^) $(LDLIBS)

.PHONY: bench
bench: PACKAGES += gnuplot-nox
bench: deps ## compare with and without deferd (docs/performance.md); BENCH="--rounds 1 --only hello-64"
	$(MAKE) all
	$(PYTHON) -B tests/bench/bench.py $(BENCH)

.PHONY: callgrind
callgrind: all ## count deferd's instructions a request
	$(PYTHON) -B tests/bench/instructions.py

.PHONY: demo
demo: deps ## see it work: responses at once, callbacks behind them (KEEP=1 leaves it running)
	$(MAKE) all
	$(PYTHON) -B tests/demo/demo.py $(if $(KEEP),--keep)

# --- code ---------------------------------------------------------------------------------------

C_FILES := $(SRC) $(wildcard include/deferd/*.h tests/unit/*.[ch] tests/fuzz/*.[ch] tests/integration/*.c)

.PHONY: format
format: ## format the C code
	clang-format -i $(C_FILES)

.PHONY: docs
docs: all ## write what is made from the table of directives: deferd.conf(5), etc/deferd.conf
	$(BUILD)/deferd --print-man >$(BUILD)/directives.man
	sed -i -e '/^\.\\" Begin/,/^\.\\" End/{//!d}' -e '/^\.\\" Begin/r $(BUILD)/directives.man' \
	    docs/man/deferd.conf.5
	$(BUILD)/deferd --print-sample >etc/deferd.conf

.PHONY: tidy
tidy: ## static analysis: clang-format, clang-tidy, cppcheck
	clang-format --dry-run -Werror $(C_FILES)
	clang-tidy --quiet --warnings-as-errors='*' $(SRC) -- $(CPPFLAGS) -std=c17 -D_GNU_SOURCE
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --suppress=missingIncludeSystem --error-exitcode=1 -Iinclude -D_GNU_SOURCE src

# --- the system -----------------------------------------------------------------------------------

# What a package is built from.
DEB_SOURCE := ARCHITECTURE.md LICENSE Makefile README.md debian docs etc include nginx src \
              php/autoload.php php/composer.json php/polyfill.php php/src php/README.md php/CHANGELOG.md

# What a Debian machine needs to build deferd and to run its demo and tests.
PACKAGES := gcc libc6-dev make pkg-config libuv1-dev libjansson-dev libinih-dev libsystemd-dev uthash-dev \
            libfcgi-dev libfcgi-bin libcmocka-dev valgrind \
            nginx-light php-cli php-fpm php-cgi php-xml php-mbstring php-curl php-pcov \
            php-slim php-pimple php-nikic-fast-route composer unzip \
            python3 python3-pytest python3-prometheus-client curl wrk groff-base

.PHONY: deps
deps: ## install what is missing, with apt-get
	@PACKAGES="$(PACKAGES)" sh tests/deps.sh

# Where things go below PREFIX; SYSCONFDIR and TMPFILESDIR stand on their own.
SYSCONFDIR  ?= /etc
UNITDIR     ?= $(PREFIX)/lib/systemd/system
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
SHARE        = $(DESTDIR)$(PREFIX)/share
DOC          = $(SHARE)/doc/deferd

# The PHP package, as php.ini's auto_prepend_file and Composer's repositories of type path name it.
PACKAGE = php/autoload.php php/composer.json php/polyfill.php $(wildcard php/src/*.php php/src/*/*.php php/src/*/*/*.php)

# Programs, manual pages and completions are what is there: NAME.bash, _NAME, NAME.fish.
SECTION = $(patsubst .%,%,$(suffix $(1)))

.PHONY: install
install: all ## install under PREFIX (/usr/local), below DESTDIR; an existing configuration stays
	install -D -m 755 $(BUILD)/deferd $(DESTDIR)$(PREFIX)/sbin/deferd
	$(if $(wildcard $(BUILD)/deferctl),install -D -m 755 $(BUILD)/deferctl $(DESTDIR)$(PREFIX)/bin/deferctl)
	$(foreach page,$(wildcard docs/man/*.[1-9]),install -D -m 644 -t $(SHARE)/man/man$(call SECTION,$(page)) $(page) &&) :
	$(foreach file,$(wildcard docs/completion/*.bash),install -D -m 644 $(file) $(SHARE)/bash-completion/completions/$(basename $(notdir $(file))) &&) :
	$(foreach file,$(wildcard docs/completion/_*),install -D -m 644 -t $(SHARE)/zsh/site-functions $(file) &&) :
	$(foreach file,$(wildcard docs/completion/*.fish),install -D -m 644 -t $(SHARE)/fish/vendor_completions.d $(file) &&) :
	test -e $(DESTDIR)$(SYSCONFDIR)/deferd/deferd.conf || \
	    install -D -m 644 etc/deferd.conf $(DESTDIR)$(SYSCONFDIR)/deferd/deferd.conf
	install -D -m 644 etc/deferd.logrotate $(DESTDIR)$(SYSCONFDIR)/logrotate.d/deferd
	install -D -m 644 etc/deferd.tmpfiles $(DESTDIR)$(TMPFILESDIR)/deferd.conf
	install -d $(DESTDIR)$(UNITDIR)
	sed -E 's,/usr/(s?bin/defer),$(PREFIX)/\1,' etc/deferd.service >$(DESTDIR)$(UNITDIR)/deferd.service
	chmod 644 $(DESTDIR)$(UNITDIR)/deferd.service
	install -D -m 644 -t $(DOC) README.md LICENSE docs/*.md docs/status.png
	install -D -m 644 -t $(DOC)/php php/README.md php/CHANGELOG.md
	$(foreach file,$(PACKAGE),install -D -m 644 $(file) $(SHARE)/deferd/$(file) &&) :
	install -D -m 644 -t $(DOC)/monitoring docs/monitoring/*
	install -D -m 644 -t $(DOC)/examples etc/deferd.conf etc/deferd.socket
	install -D -m 644 -t $(DOC)/examples/nginx nginx/*.conf

.PHONY: deb
deb: PACKAGES += debhelper dpkg-dev fakeroot
deb: deps ## build a Debian package: build/deb/deferd_VERSION_ARCH.deb
	rm -rf $(BUILD)/deb
	mkdir -p $(BUILD)/deb/deferd
	cp -R --parents $(DEB_SOURCE) $(BUILD)/deb/deferd
	sed -i '1s/(.*)/($(VERSION))/' $(BUILD)/deb/deferd/debian/changelog
	cd $(BUILD)/deb/deferd && env -u MAKEFLAGS -u MFLAGS -u BUILD -u VERSION dpkg-buildpackage -b -us -uc -rfakeroot
	rm -rf $(BUILD)/deb/deferd
	@ls $(BUILD)/deb/*.deb

.PHONY: packaging
packaging: PACKAGES += debhelper dpkg-dev fakeroot lintian debootstrap systemd-container iproute2
packaging: deps ## install, upgrade under load and purge the Debian package, in a Debian of its own
	tests/packaging/packaging.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BUILD)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
	    awk -F'|' '{ printf "%-16s%s\n", $$1, $$2 }'
