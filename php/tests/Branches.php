<?php

declare(strict_types=1);

namespace Deferd\Tests;

/**
 * Which branches some programs went through, and which ways from one to the next: an if without else has no branch of
 * its own for false, but a way past it.
 *
 * Branches go by their place in the function: the number of an opcode depends on what was loaded before it.
 *
 * Raw is what Xdebug has. Of a Branch, first and last are lines, and the ways go by the place of the branch at their
 * end; true are those that were taken.
 *
 * @phpstan-type Raw array{
 *     op_start: int, op_end: int, line_start: int, line_end: int, hit: int, out: list<int>, out_hit: list<int>
 * }
 * @phpstan-type Branch array{first: int, last: int, hit: bool, ways: array<int, bool>}
 */
final class Branches
{
    /** @var array<string, array<string, list<Branch>>> by file and function */
    private array $seen = [];

    /**
     * @param string       $root     the folder of src
     * @param list<string> $excluded files and folders in it
     */
    public function __construct(private readonly string $root, private readonly array $excluded)
    {
    }

    /**
     * Adds what a Collector has written.
     */
    public function add(string $file): void
    {
        /** @var array<string, array<string, array<int, Raw>>>|false $program */
        $program = unserialize((string) file_get_contents($file));
        if ($program === false) {
            throw new \RuntimeException("$file is not complete: the program ended while it wrote what it had covered");
        }
        foreach ($program as $source => $functions) {
            foreach ($this->excludes($source) ? [] : $functions as $function => $branches) {
                $known = $this->seen[$source][$function] ?? null;
                $new = self::read($branches);
                $this->seen[$source][$function] = $known === null ? $new : self::sum($function, $known, $new);
            }
        }
    }

    /**
     * @return array{int, int} how many branches there are, and how many ways from one to the next
     */
    public function count(): array
    {
        $branches = array_merge(...array_merge(...array_map(array_values(...), array_values($this->seen))));
        $ways = array_merge(...array_column($branches, 'ways'));

        return [count($branches), count($ways)];
    }

    /**
     * @return list<array{string, string}> where, and what it is
     */
    public function missed(): array
    {
        $missed = [];
        foreach ($this->seen as $file => $functions) {
            $text = array_map(trim(...), file($file) ?: []);
            foreach ($functions as $function => $branches) {
                // A closure's name has its path and lines.
                $function = preg_replace('/{closure:[^}]*}/', '{closure}', $function);
                foreach ($branches as $branch) {
                    $where = substr($file, strlen($this->root)) . ":{$branch['first']}";
                    if (!$branch['hit']) {
                        $missed[] = [$where, "$function: {$text[$branch['first'] - 1]}"];
                        continue;
                    }
                    foreach (array_keys($branch['ways'], false, true) as $end) {
                        $way = "{$text[$branch['last'] - 1]} => {$text[$branches[$end]['first'] - 1]}";
                        $missed[] = [$where, "$function: $way"];
                    }
                }
            }
        }

        return $missed;
    }

    private function excludes(string $file): bool
    {
        $path = substr($file, strlen($this->root));

        return array_filter($this->excluded, static fn (string $start): bool => str_starts_with($path, $start)) !== [];
    }

    /**
     * @param list<Branch> $known
     * @param list<Branch> $new
     *
     * @return list<Branch>
     */
    private static function sum(string $function, array $known, array $new): array
    {
        $sum = [];
        foreach ($known as $place => $branch) {
            $other = $new[$place] ?? null;
            if ($other === null || array_keys($branch['ways']) !== array_keys($other['ways'])) {
                throw new \RuntimeException("PHP has compiled $function in two ways, which cannot be added up");
            }
            $branch['hit'] = $branch['hit'] || $other['hit'];
            foreach ($other['ways'] as $end => $taken) {
                $branch['ways'][$end] = $taken || ($branch['ways'][$end] ?? false);
            }
            $sum[] = $branch;
        }

        return $sum;
    }

    /**
     * @param array<int, Raw> $branches of a function, by opcode
     *
     * @return list<Branch>
     */
    private static function read(array $branches): array
    {
        ksort($branches);
        $places = array_flip(array_keys($branches));
        $read = [];
        foreach ($branches as $branch) {
            $ways = [];
            foreach ($branch['out'] as $i => $end) {
                // Other ends are outside of the function.
                if (isset($places[$end]) && !self::skipsLoop($branches, $branch, $end)) {
                    $ways[$places[$end]] = $branch['out_hit'][$i] !== 0;
                }
            }
            $read[] = [
                'first' => $branch['line_start'],
                'last' => $branch['line_end'],
                'hit' => $branch['hit'] !== 0,
                'ways' => $ways,
            ];
        }

        return $read;
    }

    /**
     * Whether it is the way past a foreach from in front of it, which PHP does not take with an array: that an empty
     * one has nothing is found where the next element is fetched, a branch of one opcode to which the loop comes back.
     *
     * @param array<int, Raw> $branches
     * @param Raw             $branch
     */
    private static function skipsLoop(array $branches, array $branch, int $end): bool
    {
        $fetch = $branches[$branch['op_end'] + 1] ?? null;
        if ($fetch === null || $fetch['op_start'] !== $fetch['op_end'] || !in_array($end, $fetch['out'], true)) {
            return false;
        }
        foreach ($branches as $other) {
            if ($other['op_start'] > $fetch['op_start'] && in_array($fetch['op_start'], $other['out'], true)) {
                return true;
            }
        }

        return false;
    }
}
