<?php

return [
    Symfony\Bundle\FrameworkBundle\FrameworkBundle::class => ['all' => true],
    Deferd\Symfony\DeferBundle::class => ['all' => true],
];
