<?php

// Says what was loaded, of ours and at all; `require` brings what an application of its own would, and a
// deferd/defer in it is used if it is loaded already.

require __DIR__ . '/support.php';

if (isset($_GET['require'])) {
    require $_GET['require'];
}
echo "answered\n";
if (isset($_GET['finish'])) {
    mark(var_export(fastcgi_finish_request(), true));
}
foreach (get_declared_classes() as $class) {
    if (str_starts_with($class, 'Deferd\\')) {
        mark($class . ' ' . (new ReflectionClass($class))->getFileName());
    }
}
unset($class);
mark('autoloaders ' . count(spl_autoload_functions()));
mark('globals ' . implode(' ', preg_grep('/^_/', array_keys($GLOBALS), PREG_GREP_INVERT)));
