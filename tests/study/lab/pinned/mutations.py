"""Changes of formulas, each of which the pinned values of a behaviour must notice, and how one is made in process."""

import ast
import importlib
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

from compatlib.study.lab.cases import Measure


class Mutation(NamedTuple):
    """In a module's source, a text that stands there once, and what is put in its place."""

    behaviour: str
    module: str
    text: str
    instead: str


_LAB, _METHODS, _EVALUATION = "compatlib.study.lab", "compatlib.methods", "compatlib.evaluation"

MUTATIONS = [
    Mutation(behaviour, module, text, instead)
    for (behaviour, module), changes in {
        ("loop", "compatlib.training"): {
            "0.5 * (1 + math.cos(math.pi * done))": "(1 - done)",
            "reached = epoch if": "reached = 1.1 * epoch if",
            "min(epoch + step, warmup)": "epoch + 2 * step",
            "self.warmup_steps * step if": "2 * self.warmup_steps * step if",
            "sum(each <= epoch for": "sum(each < epoch - 0.1 for",
            '"order", epoch)': '"order", epoch + 1)',
            '"augment", state.step, rank)': '"augment", state.step + 1, rank)',
            '"objective", state.step, rank)': '"objective", 0, rank)',
            "digest[:7]": "digest[:6]",
            'stream(seed, role, "weights")': 'stream(seed, role, "weight")',
            "recipe.nesterov and recipe.momentum > 0": "recipe.momentum > 0",
            "torch.optim.Adam(": "torch.optim.AdamW(",
            "recipe.momentum, weight_decay=recipe.weight_decay": "recipe.momentum, weight_decay=0.0",
            "clip_grad_norm_(self.parameters, self.recipe.clip_norm)": "clip_grad_value_(self.parameters, 1.0)",
            "module.eval().requires_grad_(False)": "module.train().requires_grad_(False)",
            "sum(terms.values())": "max(terms.values())",
            "len(self.images) // self.batch_size": "len(self.images) // self.batch_size - 1",
            "min(self.recipe.batch_size, len(self.images))": "min(self.recipe.batch_size, len(self.images) // 2)",
            "float(total) / self.steps": "float(total) / self.batch_size",
            "epoch = state.step // run.steps": "epoch = state.step // run.steps // 2",
        },
        ("loop", "compatlib.checkpoints"): {
            'State(about["step"], about["seconds"]': 'State(about["step"] + 1, about["seconds"]',
            "value = value.double()": "value = 2 * value.double()",
        },
        ("loop", "compatlib.data.images"): {
            "in order.split(batch_size)": "in order.flip(0).split(batch_size)",
            "sampler=order.tolist()": "sampler=sorted(order.tolist())",
            "total.update(self.labels.contiguous().numpy().data)": "pass",
        },
        ("augment", "compatlib.data.augment"): {
            "2 * padding + 1, (2, count, 1)": "2 * padding, (2, count, 1)",
            "count, 1, generator=generator) < (0.5": "count, 1, generator=generator) < (0.6",
            "torch.where(draw[4] < (0.5": "torch.where(draw[4] < (0.9",
            "columns.flip(0), columns) + shifts[1]": "columns.flip(0), columns) + shifts[0]",
            "0.2 + 0.8 * draw[0]": "0.3 + 0.7 * draw[0]",
            "torch.tensor(4 / 3)": "torch.tensor(3 / 2)",
            "draw[3] < 0.8": "draw[3] < 0.5",
            "0.6 + 0.8 * draw[:3]": "0.7 + 0.6 * draw[:3]",
            "draw[4] < 0.2,": "draw[4] < 0.5,",
            "[0.299, 0.587, 0.114]": "[0.2126, 0.7152, 0.0722]",
        },
        ("noise", "compatlib.data.augment"): {
            "noise * deviations[name]": "noise",
            'f"{seed} {name}"': 'f"{seed}"',
            "view.to(each.device)].float()": "0 * view.to(each.device)].float()",
            "generator=generator) >= dropped": "generator=generator) >= dropped / 2",
        },
        ("noise", f"{_LAB}.images"): {
            '{"noise": run.noise}': '{"noise": 2 * run.noise}',
            "name: standardisation(each)[1]": "name: standardisation(each)[0]",
        },
        ("projection", "compatlib.models.heads"): {
            "found @ self.components.T": "found @ self.components.abs().T",
        },
        ("projection", f"{_METHODS}.side_information"): {
            ".eigenvectors.flip(1)": ".eigenvectors",
            "directions * largest.sign()": "directions * -largest.sign()",
        },
        ("projection", f"{_LAB}.trainables.sides"): {
            "None if self.side == RAW else self.dim": "self.dim",
        },
        ("heads", "compatlib.models.heads"): {
            "(plain - self.mean)": "plain",
            "features[:, 0] if": "features[:, -1] if",
            "features = features[encoder]": "features = next(iter(features.values())) + 1",
            'nonlinearity="relu"': 'nonlinearity="linear"',
            "mean,\n        torch.where(deviation > 0, deviation, 1.0)": "mean,\n        1 + deviation",
        },
        ("heads", f"{_LAB}.images"): {
            "square - mean.square()": "square",
            'role.startswith(("old", "query"))': 'role.startswith(("new", "query"))',
        },
        ("heads", "compatlib.data.by_encoder"): {
            "each.batch(indices)[0] for": "each.batch(indices.flip(0))[0] for",
        },
        ("resnet", "compatlib.models.resnet"): {
            ":: stride[0], :: stride[1]]": "stride[0] - 1 :: stride[0], :: stride[1]]",
            "PIXEL_MEAN, PIXEL_DEVIATION = 0.5, 0.25": "PIXEL_MEAN, PIXEL_DEVIATION = 0.5, 0.26",
            "residual + self.shortcut(x))": "residual) + self.shortcut(x)",
            "2 if stage and not block else 1": "2 if not block else 1",
            "if stride != 1 or in_width != width:": "if True:",
            'mode="fan_out"': 'mode="fan_in"',
            "padding=kernel // 2, bias=False": "padding=kernel // 2, bias=True",
            "nn.BatchNorm2d(dim), nn.ReLU(), *pool": "nn.BatchNorm2d(dim), *pool",
            ").float()": ")",
        },
        ("classifiers", "compatlib.models.classifiers"): {
            "a=math.sqrt(5)": "a=math.sqrt(4)",
            "scale: float = 16.0, *,": "scale: float = 17.0, *,",
            "margin: float = 0.2": "margin: float = 0.3",
            "true * math.cos(self.margin) - sine": "true - sine",
            "true - self.margin * math.sin(math.pi - self.margin)": "true - self.margin",
            "true < math.cos(math.pi - self.margin)": "true < -1.5",
            "product(embeddings, self.weight).float()": "product(embeddings, self.weight)",
            "clamp(min=1e-6)": "clamp(min=1e-4)",
            "enabled=False": "enabled=True",
        },
        ("slimmable", "compatlib.models.slimmable"): {
            "max(1, round(size * width))": "max(1, int(size * width))",
            "each[:size] if each.ndim": "each[-size:] if each.ndim",
            "weight.detach().clone(memory_format=order)": "(weight.detach() / 2).clone(memory_format=order)",
            "WIDTHS = (0.25, 0.5, 0.75, 1.0)": "WIDTHS = (0.25, 0.5, 0.8, 1.0)",
        },
        ("slimmable", f"{_LAB}.trainables.widths"): {
            'f"{self.base_role} width {self.width:g}"': 'f"{self.base_role} {self.width:g}"',
            "sliced(size, self.width) for size": "sliced(size, self.width) + 1 for size",
        },
        ("supernet", "compatlib.models.supernet"): {
            "(x[:, ::2], self.main(x[:, 1::2]))": "(x[:, 1::2], self.main(x[:, ::2]))",
            'kernel = 3 if kind == "x" else int(kind)': 'kernel = 5 if kind == "x" else int(kind)',
            "padding=kernel // 2, groups=width": "padding=kernel // 2, groups=1",
            "2 * weight.numel() * size[0]": "weight.numel() * size[0]",
            "_normed(out_width - passing)]": "_normed(out_width - passing)[:1]]",
            "he_initialised(self)\n": "pass\n",
            "min(own, key=own.get)": "max(own, key=own.get)",
            "-(-side // stride)": "side // stride",
        },
        ("cmp-nas", f"{_METHODS}.cmp_nas"): {
            "detach().softmax(dim=1))": "detach().softmax(dim=0))",
            'own = objective == "both"': 'own = objective == "gallery"',
            'common["weight"] = weight': 'common["weight"] = 1.0',
            "classifier.load_state_dict(gallery_classifier.state_dict())": "pass",
            "torch.randint(2**62, ())": "torch.randint(2**61, ())",
            '"fabric": fabric, "weight": weight}': '"fabric": fabric, "weight": 1.0}',
        },
        ("cmp-nas", f"{_LAB}.trainables.upgrades"): {
            "cmp_nas.fit_query(objective=objective,": 'cmp_nas.fit_query(objective="both",',
        },
        ("cmp-nas", f"{_LAB}.trainables.supernets"): {
            'f"super-network {self.draw}"': '"super-network"',
            'f"{self.stream} classifier"': '"classifier"',
            "return run.knobs.query": "return run.knobs.supernet",
            'objective="both"': 'objective="gallery"',
            "images, recipe = self.images(run), run.knobs.supernet": "images, recipe = self.images(run), run.training",
        },
        ("path scores", f"{_METHODS}.path_scores"): {
            "// batch_size * batch_size or len(images)": "// batch_size * batch_size and len(images)",
            "norm.momentum = None": "norm.momentum = 0.5",
            "norm.train().reset_running_stats()": "norm.train()",
            "exclude_self=self.gallery is None": "exclude_self=False",
            "in (own_gallery, gallery_vectors)]": "in (gallery_vectors, own_gallery)]",
        },
        ("path scores", f"{_LAB}.images"): {
            "return split.calibration, split.search": "return split.calibration, split.test",
            "return split if split == SEARCHED else split == OPEN_SET": "return split == OPEN_SET",
        },
        ("path scores", f"{_LAB}.spaces"): {
            "        if self.is_recalibrated:\n": "        if not self.is_recalibrated:\n"
        },
        ("evolution", f"{_METHODS}.architecture_search"): {
            '"search", generation)': '"search", generation + 1)',
            "mixed(parent(), parent(), 0.5)": "mixed(parent(), parent(), 0.4)",
            "_best(found, evolution.parents)": "_best(found, evolution.parents + 1)",
            "<= max_flops:": "<= 2 * max_flops:",
            "mutation_rate: float = 0.1": "mutation_rate: float = 0.2",
        },
        ("evolution", f"{_LAB}.trainables.supernets"): {
            "population=self.paths, generations=1": "population=self.paths, generations=2",
            "1e6 * self.cap": "2e6 * self.cap",
            "history[self.number - 1]": "history[-self.number]",
        },
        ("independent", f"{_METHODS}.independent"): {
            "classifier(backbone(inputs), labels)": "classifier(backbone(inputs))",
            "labels, label_smoothing=label_smoothing)": "labels)",
        },
        ("independent", f"{_LAB}.roles"): {
            "share: float = 0.5": "share: float = 0.4",
            "_old_classes(run, encoder), share)": "_old_classes(run, encoder), 2 * share)",
            'update={"dim": run.small_network.dim // 2}': 'update={"dim": run.small_network.dim // 4}',
            "blocks=2 * run.network.blocks": "blocks=3 * run.network.blocks",
            "splits.of_classes(split.train, 0,": "splits.of_classes(split.train, 1,",
        },
        ("independent", f"{_LAB}.trainables.base"): {
            'f"{self.base_role} classifier"': 'f"{self.base_role} rows"',
            "role.weights_of or self.base_role": "self.base_role",
            '"label_smoothing": run.training.label_smoothing': '"label_smoothing": 0.0',
            '"augment": augment(run, self.images(run))': '"augment": lambda inputs, generator: inputs',
        },
        ("bct", f"{_METHODS}.bct"): {
            "total / carries.sum().clamp(min=1)": "total / len(carries)",
            "weight * influence}": "influence}",
            "F.cross_entropy(logits[carries].float()": "F.cross_entropy(2 * logits[carries].float()",
            "torch.arange(int(known), device=device)": "torch.arange(int(known) + 1, device=device)[:rows]",
            "label_smoothing=label_smoothing)\n        influence": ")\n        influence",
        },
        ("bct", f"{_METHODS}.common"): {
            "embeddings[:, :dim]": "embeddings[:, -dim:]",
        },
        ("bct", f"{_LAB}.trainables.upgrades"): {
            "fit(old=old, weight=self.chosen_weight,": "fit(old=old, weight=1.0,",
        },
        ("bct", f"{_LAB}.trainables.widths"): {
            '"role": self.stream, **placement': '"role": self.name, **placement',
        },
        ("synthesis", f"{_METHODS}.bct"): {
            "real.double().norm(dim=1).mean() if len(real)": "real.double().norm(dim=1).median() if len(real)",
            ".detach().double().mean(dim=0)": ".detach().double().median(dim=0).values",
            "rows / norms *": "rows *",
            "(row + (means[len(real) :] - mean) @ chosen)": "(row + means[len(real) :] @ chosen)",
            "errors.index(min(errors))": "errors.index(max(errors))",
        },
        ("synthesis", f"{_LAB}.trainables.upgrades"): {
            'normalize=form == "C"': 'normalize=form == "B"',
            'bct.ridge_classifier if form == "D" else partial': "partial",
        },
        ("alignments", f"{_METHODS}.bct_baselines"): {
            "return F.mse_loss(new, old)": "return F.mse_loss(new, old) * new.shape[1]",
            ".square().sum(dim=1).mean()": ".square().mean()",
            "margin: float = 1.0": "margin: float = 0.9",
            "margin: float = 0.3": "margin: float = 0.4",
            "both = ((new, old), (old, new))": "both = ((new, old), (new, old))",
            "temperature: float = 0.05": "temperature: float = 0.07",
            "same.sum(dim=1)).mean()": "same.sum(dim=1).clamp(max=1)).mean()",
            "weight).softmax(dim=1)": "weight).div(2).softmax(dim=1)",
            '"alignment": weight * drawn': '"alignment": drawn',
            ".float(), old.float(), labels)": ", old, labels)",
            "enabled=False": "enabled=True",
        },
        ("alignments", f"{_METHODS}.common"): {
            "embeddings[:, :dim]": "embeddings[:, -dim:]",
        },
        ("alignments", f"{_LAB}.trainables.upgrades"): {
            'Distillation(old.parts["classifier"].weight)': 'Distillation(2 * old.parts["classifier"].weight)',
            "classification=classification, **others": "**others",
        },
        ("dual-tuning", f"{_METHODS}.dual_tuning"): {
            "normalize=False)": "normalize=True)",
            "F.cross_entropy(new @ old.T, labels)": "F.cross_entropy(new @ F.normalize(old).T, labels)",
            ".square().sum(dim=1).mean()": ".square().mean()",
            "embeddings[:, :common].to(wide)": "embeddings[:, -common:].to(wide)",
            "new_classifier(resized(old.detach(), dim)": "new_classifier(resized(new.detach(), dim)",
            "weight: float = 0.1,": "weight: float = 0.2,",
            "old_to_new: float = 0.2,": "old_to_new: float = 0.1,",
            "new_to_old: float = 0.2,": "new_to_old: float = 0.1,",
            'kind: Kind = "softmax",\n    known': 'kind: Kind = "distance",\n    known',
            '"prototypes"] = weight * prototype_loss': '"prototypes"] = prototype_loss',
            "name: share * loss": "name: loss",
            "enabled=False": "enabled=True",
            "labels, label_smoothing=label_smoothing)}": "labels)}",
        },
        ("dual-tuning", f"{_METHODS}.bct"): {
            ".detach().double().mean(dim=0)": ".detach().double().median(dim=0).values",
            "total / carries.sum().clamp(min=1)": "total / len(carries)",
        },
        ("dual-tuning", f"{_METHODS}.common"): {
            "embeddings[:, :dim]": "embeddings[:, -dim:]",
        },
        ("dual-tuning", f"{_LAB}.trainables.upgrades"): {
            '"old_to_new": weight, "new_to_old": weight': '"old_to_new": weight, "new_to_old": 0.0',
            '"kind": prototypes,': '"kind": "softmax",',
            "told = {**self.chosen_terms, **parts": "told = {**METHODS[self.method].terms, **parts",
        },
        ("simclr", f"{_METHODS}.side_information"): {
            "views @ views.T / temperature": "views @ views.T",
            "temperature: float = 0.5": "temperature: float = 0.4",
            "nn.Linear(dim, dim), nn.ReLU(),": "nn.Linear(dim, dim),",
            'f"{role} projection"': 'f"{role} head"',
            "partial(two_views, flip=flip)": "two_views",
            "enabled=False": "enabled=True",
        },
        ("simclr", f"{_LAB}.trainables.sides"): {
            'f"side {self.side}"': 'f"side-information {self.side}"',
        },
        ("autoencoder", f"{_METHODS}.side_information"): {
            "scaled(inputs))": "scaled(inputs) / 2)",
            "scale_factor=2)": 'scale_factor=2, mode="bilinear")',
            'f"{role} decoder"': 'f"{role} painter"',
            "width: int = 32": "width: int = 16",
        },
        ("autoencoder", f"{_LAB}.trainables.sides"): {
            'run.training if self.side == "supervised" else': "run.training if self.dim else",
        },
        ("views", f"{_METHODS}.stored_views"): {
            '"view", view, number)': '"view", number, view)',
            "views: int = 8": "views: int = 4",
            "stored[0] if side is None else stored[1], stored[-1]": "stored[0], stored[-1]",
            "torch.randint(views, (count,)": "torch.randint(views - 1, (count,)",
        },
        ("views", f"{_LAB}.trainables.transformations"): {
            "StoredViews(stored[0], beside, stored[1]": "StoredViews(stored[1], beside, stored[0]",
            '{"views": run.knobs.views, "precision"': '{"views": 1, "precision"',
        },
        ("fct", f"{_METHODS}.fct"): {
            "nn.BatchNorm1d(size_out), nn.ReLU()": "nn.BatchNorm1d(size_out), nn.Tanh()",
            "[self.from_old(old), self.from_side(side)]": "[self.from_side(side), self.from_old(old)]",
            "2 * epoch >= epochs": "2 * epoch > epochs",
            '"fct", F.mse_loss(transformation(old, side)': '"fct", F.l1_loss(transformation(old, side)',
            "old_embedding if side is None else": "-old_embedding if side is None else",
        },
        ("fct", f"{_LAB}.trainables.transformations"): {
            'STREAM = "transformation"': 'STREAM = "h"',
            '"old": old, "side"': '"old": new, "side"',
        },
        ("fastfill", f"{_METHODS}.fct"): {
            "label_smoothing: float = 0.1": "label_smoothing: float = 0.0",
            "+ 0.5 * log_variance)": "+ log_variance)",
            "torch.exp(-log_variance)": "torch.exp(log_variance)",
            "enabled=False": "enabled=True",
            "else squares.mean(dim=1)": "else squares.sum(dim=1)",
            "squares.sum(dim=1) if": "2 * squares.sum(dim=1) if",
            "missed + cross_entropy * classified": "missed + classified",
            "self.uncertainty(embedding)[:, 0]": "self.uncertainty(embedding)[:, 0].abs()",
        },
        ("fastfill", f"{_LAB}.trainables.transformations"): {
            "Transformation(old_dim, side_dim, new_dim, hidden_dim)": "Transformation(old_dim, side_dim, new_dim, 9)",
        },
        ("fastfill", f"{_LAB}.measures.backfilling"): {
            "spearmanr(stated,": "spearmanr(-stated,",
        },
        ("sfsc", f"{_METHODS}.sfsc"): {
            'if width == 1 or loss == "cross-entropy":': 'if loss == "cross-entropy":',
            "evidential_loss(logit_scale * logits": "evidential_loss(logits",
            "labels, kl_weight)\n": "labels)\n",
            "kl_weight: float = 5e-4": "kl_weight: float = 5e-2",
            "margin: float = 0.3": "margin: float = 0.5",
            "uncertainty(logit_scale * logits": "uncertainty(logits",
            "enabled=False": "enabled=True",
            "in reversed(network.widths)": "in network.widths",
            "yield name, F.cross_entropy": "yield name, 2 * F.cross_entropy",
        },
        ("sfsc", f"{_LAB}.trainables.widths"): {
            'BCT_S: ("cross-entropy", "none")': 'BCT_S: ("evidential", "none")',
            "knobs.clip_norm or None": "knobs.clip_norm / 100",
        },
        ("evidential", f"{_METHODS}.evidential"): {
            "kl_weight: float = 5e-4": "kl_weight: float = 1e-3",
            "alpha = 1 + F.softplus(logits.double())": "alpha = 1 + F.relu(logits.double())",
            "torch.digamma(total) - torch.digamma(own)": "torch.log(total) - torch.log(own)",
            "alpha.scatter(1, labels[:, None], 1.0)": "alpha",
            "logits.shape[1] / (1 + F": "1 / (1 + F",
            "- torch.lgamma(classes)": "",
        },
        ("triplet", f"{_METHODS}.bct_baselines"): {
            "new, old = F.normalize(new), F.normalize(old)": "pass",
            ".argmin(dim=1)": ".argmax(dim=1)",
            "negative + margin": "negative + 2 * margin",
            "F.relu(positive": "F.softplus(positive",
        },
        ("pcgrad", f"{_METHODS}.conflicts"): {
            "own @ inner[:, other], inner": "inner[at, other], inner",
            "overlap / squared_norm": "0.5 * overlap / squared_norm",
            "share if overlap < 0 and": "share if",
            "_taken_out(inner[i, full]": "0.9 * _taken_out(inner[i, full]",
            "torch.randperm(len(inner), generator=generator)": "torch.arange(len(inner))",
            "torch.finfo(gram.dtype).max / len(gram)": "torch.finfo(torch.float64).max",
        },
        ("pcgrad", f"{_METHODS}.sfsc"): {
            'names.index("1.0")': 'names.index("0.5")',
            "conflict_weights(own, generator) for own": "conflict_weights(gram, generator) for own",
            "int(torch.randint(2**62, ()))": "1 + int(torch.randint(2**62, ()))",
        },
        ("gradients", f"{_LAB}.gradient_statistics"): {
            "diagonal().clamp(min=0).sqrt()": "diagonal().clamp(min=0)",
            "self._conflicts[epoch] += gram < 0": "self._conflicts[epoch] += gram <= 0",
            "step.products < 0": "step.products < 1",
            "int(self._taken) // self.steps": "int(self._taken) % self.steps",
            "clamp(0, self.steps)": "clamp(1, 1)",
        },
        ("gradients", f"{_LAB}.measures.gradients"): {
            "statistics.tensor_conflicts[:, place].mean(dim=0)": "statistics.tensor_conflicts[0, place]",
            "statistics.cosine[epoch, first, second]": "statistics.cosine[epoch, second, second]",
        },
        ("splits", "compatlib.data.splits"): {
            "* share).round()[labels]": "* share).floor()[labels]",
            "< _per_class(images.labels, 1 - share)": ">= _per_class(images.labels, share)",
            "half, validation = count // 2, count // 10": "half, validation = count // 2, count // 5",
            "half // 2,\n": "half // 3,\n",
            "place + 1 + rank %": "place + 1 + 0 * rank %",
            "torch.argsort(order)[images.labels]": "order[images.labels]",
            '< _per_class(images.labels, share), share, "old")': '>= _per_class(images.labels, share), share, "old")',
        },
        ("splits", f"{_LAB}.images"): {
            "labels >= known}": "labels > known}",
            "splits.renumbered(found, draw) if draw": "splits.renumbered(found, draw + 1) if draw",
            '"kept" if run.validation': '"train" if run.validation',
            "max(1, side // 8)": "max(1, side // 4)",
            'WITHOUT_FLIP = ("glyphs",': "WITHOUT_FLIP = (",
        },
        ("embedding", "compatlib.embedding"): {
            "    module.eval()\n": "",
            "fabric.autocast():\n        for": "one_device().autocast():\n        for",
            "(backbone(fabric.to_device(inputs))": "(2 * backbone(fabric.to_device(inputs))",
            "images.select(torch.arange(first, last))": "images.select(torch.arange(first, last).flip(0))",
        },
        ("embedding", f"{_LAB}.spaces"): {
            "sums / counts[:, None]": "sums",
            "each.astype(np.float16).astype(np.float32) for each in found": "each for each in found",
            "of_role(self.transformation.old) if": "of_role(self.transformation.new) if",
            "self._outcome(seed, split)[1]": "self._outcome(seed, split)[0][:, 0]",
        },
        ("centring", f"{_LAB}.spaces"): {
            "return moved + mean": "return moved - mean",
            "- seed.vectors(TrainingMean(self.what), split)": "- 0.9 * seed.vectors(TrainingMean(self.what), split)",
            '"new_open" if split': '"old_open" if split',
        },
        ("row space", f"{_LAB}.measures.widths"): {
            "(vectors @ spanning.T).square()": "(vectors @ spanning.T).abs()",
            "right[singular > ": "right[singular <= ",
            "vectors.square().sum()": "vectors.abs().sum()",
        },
        ("training accuracy", f"{_LAB}.measures.widths"): {
            ".argmax(dim=1)": ".argmin(dim=1)",
            "(chosen == images.labels)": "(chosen == images.labels.flip(0))",
        },
        ("retrieval", f"{_EVALUATION}._counting"): {
            "first_rank[i] = 1 + counts[n]": "first_rank[i] = counts[n] + (counts[n] == 0)",
            "(correct / (correct + incorrect))": "(correct / (1 + correct + incorrect))",
            "return total / n": "return total / (n + 1)",
            "if levels[middle] <= score:": "if levels[middle] < score:",
            "            if score > best or (score == best and item < best_item)": "            if score >= best",
            "levels[j] == levels[top]": "levels[j] > levels[top] - 9",
            "norm = np.sqrt(total)": "norm = total",
        },
        ("retrieval", f"{_EVALUATION}._scores"): {
            "block if self.cosine else 2 * block": "block",
            "reference = 0 if self.comparable else widest": "reference = widest",
            "self._items[chosen, self.coordinates] = squares": "self._items[chosen, self.coordinates] = squares / 2",
            "min(query.shape[1], parts[part].shape[1])": "min(query.shape[1], parts[part].shape[1]) - 1",
        },
        ("retrieval", f"{_EVALUATION}._ranking"): {
            'query_labels, side="right"': 'query_labels + 1, side="right"',
            "np.arange(n_query) if exclude_self": "np.full(n_query, 0) if exclude_self",
        },
        ("retrieval", f"{_EVALUATION}.retrieval"): {
            "np.mean(first_rank[valid] <= rank)": "np.mean(first_rank <= rank)",
            "popular / len(first_rank)": "popular / len(answered) / 2",
            '(1, 5),\n) -> Retrieval:\n    """Scores': '(1, 4),\n) -> Retrieval:\n    """Scores',
            "self.first_rank <= rank for": "self.first_rank < rank for",
        },
        ("retrieval", f"{_EVALUATION}._measured"): {
            "weights=values[valid]": "weights=values[valid] ** 2",
        },
        ("retrieval", f"{_LAB}.measures.scores"): {
            "sums = np.mean([each[metric].sums for each in classes], axis=0)": "sums = classes[0][metric].sums / 2",
            "test.collapse.top_share": "1 - test.collapse.top_share",
            "value - before[metric]": "value",
            "one.sums - other.sums": "one.sums",
        },
        ("retrieval", f"{_LAB}.seed"): {
            "exclude_self=gallery.is_gallery_of_queries": "exclude_self=len(query.trainables) == 7",
        },
        ("chance", f"{_EVALUATION}.chance"): {
            "digamma(n + 1) + np.euler_gamma": "np.log(n) + np.euler_gamma",
            "(p - 1) / np.maximum(n - 1, 1)": "p / np.maximum(n, 1)",
            "hypergeom.sf(0, n, p,": "hypergeom.sf(1, n, p,",
            "removed_self[own_label] = 0": "pass",
            "weights=queries": "weights=None",
        },
        ("chance", f"{_LAB}.measures.scores"): {
            "levels.chance(queries, labels, exclude_self=True)": "levels.chance(labels, labels, exclude_self=True)",
        },
        ("flips", f"{_EVALUATION}.compatibility"): {
            '(ranks["new"] > 1), valid': '(ranks["new"] > 2), valid',
            "np.mean(flipped[valid])": "np.mean(flipped)",
        },
        ("flips", f"{_LAB}.measures.scores"): {
            "before = case.before or case.gallery": "before = case.gallery",
            "negative_flips(old.subset(mask), test": "negative_flips(test.subset(mask), old",
        },
        ("verification", f"{_EVALUATION}.verification"): {
            "accepted = scores > np.float64(": "accepted = scores >= np.float64(",
            "position = len(impostors) - 1 - accepted": "position = len(impostors) - 2 - accepted",
            'np.searchsorted(reached, accepted, side="right")': 'np.searchsorted(reached, accepted, side="left")',
            "int(self.exclude_self) - genuine": "genuine",
        },
        ("verification", f"{_EVALUATION}._counting"): {
            "np.float64(scores[r, c]) > threshold": "np.float64(scores[r, c]) >= threshold",
        },
        ("verification", f"{_EVALUATION}.compatibility"): {
            "fixed.threshold, new_query": "fixed.threshold - 1, new_query",
        },
        ("verification", f"{_LAB}.measures.scores"): {
            "FAR = 1e-3": "FAR = 1e-1",
        },
        ("backfilling", f"{_EVALUATION}.backfilling"): {
            "(i * n) // (cutoffs - 1)": "-((-i * n) // (cutoffs - 1))",
            "part_of[order[:count]] = 1": "part_of[order[n - count :]] = 1",
            "float(np.mean(values))": "float(np.median(values))",
            "CUTOFFS = 22": "CUTOFFS = 21",
        },
        ("backfilling", f"{_LAB}.measures.backfilling"): {
            "LOOKED_AT = (5, 10)": "LOOKED_AT = (5, 11)",
            "_mean(is_right[~by_new])": "_mean(is_right)",
        },
        ("search", f"{_EVALUATION}.search"): {
            "scores = -scores": "scores = -scores / 2",
            "max(1, size // 2)": "max(1, size // 4)",
            "round(4 * n**0.5)": "round(2 * n**0.5)",
            "min(-(-lists // 4), 64)": "min(lists // 4, 64)",
            "n // 39": "n // 30",
        },
        ("search", f"{_LAB}.measures.cost"): {
            "NEIGHBOURS = 10": "NEIGHBOURS = 9",
        },
        ("gallery", "compatlib.gallery"): {
            "ready(rows, beside)": "ready(rows, beside).abs()",
            "copy.deepcopy(module, values).eval()": "copy.deepcopy(module, values).train()",
            "norm.eps, scale, shift": "0.1, scale, shift",
            "input.relu_()": "input.abs_()",
        },
        ("collapse", f"{_LAB}.measures.vectors"): {
            "seed.vectors(case.query, case.split) == 0": "seed.vectors(case.gallery, case.split) == 0",
            "is_zero.all(axis=1).mean()": "is_zero.any(axis=1).mean()",
        },
        ("likeness", f"{_LAB}.measures.vectors"): {
            "resized(new, old.shape[1]), old)": "resized(new, old.shape[1]).abs(), old)",
            "cosines[mask].mean()": "cosines.mean()",
        },
        ("likeness", f"{_METHODS}.common"): {
            "embeddings[:, :dim]": "embeddings[:, -dim:]",
        },
        ("old classifier", f"{_LAB}.measures.classifier"): {
            "part.norm(dim=1).mean()": "part.norm(dim=1).max()",
            "different.mean()": "different.abs().mean()",
            "(embeddings @ weight.T).argmax(dim=1)": "(embeddings @ F.normalize(weight).T).argmin(dim=1)",
            "(chosen >= known)": "(chosen > known)",
            "extended(old, images, form)": 'extended(old, images, "C")',
        },
        ("orders", f"{_LAB}.orders"): {
            '"gallery", "order")': '"gallery", "orders")',
            '"gallery", "classes")': '"gallery", "order")',
            "np.argsort(-values": "np.argsort(values",
            "uncertain[::-1].copy()": "uncertain.copy()",
            "cumcount()": "ngroup()",
            "2 * float(fastfill_loss": "float(fastfill_loss",
        },
        ("flops", f"{_LAB}.measures.cost"): {
            "counter.get_total_flops()": "counter.get_total_flops() // 2",
            "backbone(space.width)": "backbone()",
        },
        ("flops", f"{_LAB}.measures.paths"): {"FLOPS[encoder] + head": "FLOPS[encoder] - head"},
        ("flops", "compatlib.models.encoders"): {'"lite0": 391_742_400': '"lite0": 391_742_401'},
        ("paths", f"{_LAB}.measures.paths"): {
            "(own[SELF], own[CROSS])})": "(own[SELF], other[CROSS])})",
            "(own[name], other[name]) for": "(own[name], own[name]) for",
            "_tau(other[SELF], own[CROSS])": "_tau(other[SELF], other[CROSS])",
            "[2.5, 97.5]": "[5.0, 95.0]",
            "score >= scores[0] - loss": "score >= scores[0] * (1 - loss)",
            "1 - min(fits) / costs[0]": "1 - max(fits) / costs[0]",
            "np.mean([found[metric]": "np.median([found[metric]",
            "[: len(pairs)]": "[-len(pairs) :]",
            "(query, query) for query, _ in pairs": "(gallery, gallery) for _, gallery in pairs",
        },
    }.items()
    for text, instead in changes.items()
]

PLAIN = int | float | str | tuple | dict | bool | None
COMPILED = ("compiled", "compiled_parallel")


@contextmanager
def mutated(name: str, text: str, instead: str) -> Iterator[None]:
    """The live module of this name with another text in its source; everything is as it was afterwards.

    Code, defaults and plain constants of the live functions, methods and classes are exchanged, so that whoever holds a
    reference sees them. Compiled loops give way to what they were compiled from.

    Raises:
        ValueError: the text does not stand in the source once.
    """
    module = importlib.import_module(name)
    with open(module.__file__) as file:
        source = file.read()
    if source.count(text) != 1:
        raise ValueError(f"{name} holds {text!r} {source.count(text)} times; give a text that stands there once")
    tree = ast.parse(source.replace(text, instead))
    loops = _without_compilation(tree)
    other: dict[str, Any] = {"__name__": name, "__file__": module.__file__}
    exec(compile(tree, module.__file__, "exec"), other)
    undo: list[Callable[[], None]] = []
    try:
        for each in loops:
            _set(module, each, other[each], undo)
        _exchange(module, {each: value for each, value in other.items() if each not in loops}, name, undo)
        yield
    finally:
        for each in reversed(undo):
            each()


def _without_compilation(tree: ast.Module) -> list[str]:
    """Takes numba's decorators off; the names of the functions that had one."""
    loops = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            kept = [each for each in node.decorator_list if not (isinstance(each, ast.Name) and each.id in COMPILED)]
            if len(kept) < len(node.decorator_list):
                loops.append(node.name)
            node.decorator_list = kept
    return loops


def _exchange(owner: Any, other: Mapping[str, Any], module: str, undo: list[Callable[[], None]]) -> None:
    """Give what a module or class defines itself the code and the constants of another one's namespace."""
    for name, own in list(vars(owner).items()):
        if name not in other or (name.startswith("__") and not isinstance(own, types.FunctionType)):
            continue
        new = other[name]
        if isinstance(own, type) and own.__module__ == module:
            _exchange(own, vars(new), module, undo)
        elif isinstance(own, dict) and isinstance(new, dict):
            if repr(own) != repr(new) and " at 0x" not in repr(new):
                _replace(own, new, undo)
        elif isinstance(own, PLAIN):
            if own != new:
                _set(owner, name, new, undo)
        else:
            for function, theirs in zip(functions(own), functions(new), strict=True):
                if function.__module__ == module:
                    for part in ("__code__", "__defaults__", "__kwdefaults__"):
                        _set(function, part, getattr(theirs, part), undo)


def functions(value: Any) -> list[types.FunctionType]:
    """The Python functions behind a value: itself, what it wraps, a property's, a measure's."""
    if isinstance(value, Measure):
        return [value.function]
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, cached_property):
        return [value.func]
    value = getattr(value, "__func__", value)
    value = getattr(value, "__wrapped__", value) if not isinstance(value, type) else value
    return [value] if isinstance(value, types.FunctionType) else []


def _set(owner: Any, name: str, value: Any, undo: list[Callable[[], None]]) -> None:
    before = getattr(owner, name)
    undo.append(lambda: setattr(owner, name, before))
    setattr(owner, name, value)


def _replace(own: dict, new: dict, undo: list[Callable[[], None]]) -> None:
    before = dict(own)

    def put(content: dict) -> None:
        own.clear()
        own.update(content)

    undo.append(lambda: put(before))
    put(new)
