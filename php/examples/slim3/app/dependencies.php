<?php

declare(strict_types=1);

use App\Chores;
use App\Steps;
use Psr\Container\ContainerInterface;

return static function (ArrayAccess&ContainerInterface $container): void {
    $container['chores'] = static fn (ContainerInterface $c): Chores => new Chores(
        $c->get('defer'),
        (int) $c->get('request')->getQueryParam('ms', '100')
    );
    $container['steps'] = static fn (ContainerInterface $c): Steps => new Steps(
        $c->get('request')->getUri()->getPath(),
        (string) $c->get('request')->getQueryParam('key', '')
    );
};
