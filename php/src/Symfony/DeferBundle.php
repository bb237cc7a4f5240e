<?php

declare(strict_types=1);

namespace Deferd\Symfony;

use Deferd\Defer;
use Symfony\Component\Config\Definition\Configurator\DefinitionConfigurator;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Loader\Configurator\ContainerConfigurator;
use Symfony\Component\HttpKernel\Bundle\AbstractBundle;
use Symfony\Component\HttpKernel\KernelEvents;

use function Symfony\Component\DependencyInjection\Loader\Configurator\service;

/**
 * Deferd\Defer as a service, and what Symfony itself does on kernel.terminate seen by deferd.
 *
 * In config/bundles.php: Deferd\Symfony\DeferBundle::class => ['all' => true].
 */
final class DeferBundle extends AbstractBundle
{
    /** Behind the application's listeners, and behind the profiler, whose toolbar asks for the profile at once. */
    private const LAST = -2048;

    public function configure(DefinitionConfigurator $definition): void
    {
        $definition->rootNode()
            ->children()
                ->booleanNode('skip_on_error')
                    ->info('Skip callbacks that are not always() when the status is 400 or above.')
                    ->defaultFalse()
                ->end()
            ->end();
    }

    /**
     * @param array{skip_on_error: bool} $config
     */
    public function loadExtension(array $config, ContainerConfigurator $container, ContainerBuilder $builder): void
    {
        $services = $container->services();
        $services->set(Runner::class)
            ->args([service('logger')->nullOnInvalid(), $config['skip_on_error']])
            ->tag('monolog.logger', ['channel' => 'defer'])
            ->tag('kernel.event_listener', ['event' => KernelEvents::TERMINATE, 'priority' => self::LAST])
            ->tag('kernel.reset', ['method' => 'reset']);
        $services->set(Defer::class)->factory([service(Runner::class), 'defer'])->public();
        $services->alias('defer', Defer::class)->public();
        $services->set(AfterResponse::class)
            ->tag('kernel.event_listener', ['event' => KernelEvents::TERMINATE, 'priority' => AfterResponse::FIRST]);
    }

    public function boot(): void
    {
        require_once __DIR__ . '/../finish_request.php';
        require_once __DIR__ . '/finish_request.php';
    }
}
