<?php

declare(strict_types=1);

namespace App;

/**
 * Mails that wait until the client has its response.
 */
final class Outbox
{
    /** @var list<string> */
    private array $mails = [];

    public function __construct(private readonly Trace $trace)
    {
    }

    public function add(string $mail): void
    {
        $this->mails[] = $mail;
    }

    public function send(int $ms): void
    {
        foreach ($this->mails as $mail) {
            usleep($ms * 1000);
            $this->trace->add("sent $mail");
        }
        $this->mails = [];
    }
}
