<?php

namespace App\Jobs;

use App\Services\Step;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Foundation\Queue\Queueable;

class SendReport implements ShouldQueue
{
    use Queueable;

    public function __construct(private readonly string $recipient)
    {
    }

    public function handle(): void
    {
        Step::take("report for {$this->recipient}");
    }
}
