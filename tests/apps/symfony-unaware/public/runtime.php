<?php

/*
 * A front controller that stands in for symfony/runtime, which not every copy of Packagist has: its HttpKernelRunner
 * does the same, in the same namespace, and the kernel is in the same global variable.
 */

declare(strict_types=1);

namespace Symfony\Component\Runtime\Runner\Symfony {

    use Symfony\Component\HttpFoundation\Request;
    use Symfony\Component\HttpFoundation\Response;
    use Symfony\Component\HttpKernel\KernelInterface;
    use Symfony\Component\HttpKernel\TerminableInterface;

    final class HttpKernelRunner
    {
        public function __construct(
            private readonly KernelInterface&TerminableInterface $kernel,
            private readonly Request $request,
            private readonly bool $debug,
        ) {
        }

        public function run(): int
        {
            $response = $this->kernel->handle($this->request);
            $response->send(false);
            if (\function_exists('fastcgi_finish_request') && !$this->debug) {
                fastcgi_finish_request();
            } else {
                Response::closeOutputBuffers(0, true);
                flush();
            }
            $this->kernel->terminate($this->request, $response);

            return 0;
        }
    }
}

namespace {

    use App\Kernel;
    use Symfony\Component\HttpFoundation\Request;
    use Symfony\Component\Runtime\Runner\Symfony\HttpKernelRunner;

    require_once dirname(__DIR__) . '/vendor/autoload.php';

    $app = new Kernel(getenv('APP_ENV') ?: 'prod', (bool) getenv('APP_DEBUG'));

    exit((new HttpKernelRunner($app, Request::createFromGlobals(), $app->isDebug()))->run());
}
