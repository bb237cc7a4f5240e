<?php

/**
 * What Laravel 12 uses, in the tests, of the packages that composer.json here says it replaces. Where Composer
 * brings the real ones, nothing of this is needed.
 */

declare(strict_types=1);

namespace {
    if (!function_exists('array_first')) {
        function array_first(array $array): mixed
        {
            return $array === [] ? null : $array[array_key_first($array)];
        }

        function array_last(array $array): mixed
        {
            return $array === [] ? null : $array[array_key_last($array)];
        }
    }
}

namespace Symfony\Component\Clock {
    interface ClockInterface extends \Psr\Clock\ClockInterface
    {
        public function sleep(float|int $seconds): void;

        public function withTimeZone(\DateTimeZone|string $timezone): static;
    }
}

namespace Fruitcake\Cors {
    /** HandleCors wants one; it asks it nothing as long as no path is told to need CORS. */
    final class CorsService
    {
    }
}
