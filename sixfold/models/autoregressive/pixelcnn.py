"""PixelCNN: an image read like a page, each pixel given all pixels before it by gated causal convolutions.

    log p(x | c) = sum_n sum_i log p(x_ni | x_n1 .. x_n(i-1), h_n),     h_n = two stacks of convolutions(patches before n, c)

Each factor is a Bernoulli (binary), a categorical or a mixture of discretised logistics (levels), a categorical (tokens) or a
mixture of Gaussians (real images, standardised). Two stacks, of rows above and of the row to the left, together see every pixel
before: there is no blind spot. Channels of a pixel follow each other, and with ``patch`` above 1 so do the pixels of a patch.

Can: say how likely an image is, exactly, in one pass; sample with the arithmetic of one pass; complete images, exactly where the
known pixels come first; be conditioned on classes or a vector. Cannot: give a code of an image; draw all pixels at once, as each
waits for those before it; take data without rows and columns.

Source:  Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), arXiv:1606.05328, section 2.
         Logistics: PixelCNN++ (Salimans et al., 2017), arXiv:1701.05517, section 2.1.
Differs: patches with an exact factorisation within, by a masked network that also orders the channels; both stacks have
         residuals, smaller kernels that may be dilated, and know where they are; every element has an output bias of its own,
         which starts at its distribution in the training data.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sixfold.core.draws import Draws
from sixfold.core.errors import BadInput, Unsupported
from sixfold.core.signature import Count, Natural
from sixfold.core.spec import DataSpec
from sixfold.models.autoregressive._family import ChainRule
from sixfold.nn.gated import GatedDecoder
from sixfold.prob.logistics import mixture_for


class PixelCNN(ChainRule):
    """Exact likelihood of images by gated causal convolutions.

    Args:
        width: channels of each stack; more holds more of what was read and costs quadratically.
        depth: layers; more sees further and depends on the past less additively.
        kernel: odd, columns that a layer sees; more sees further and costs quadratically.
        dilate: layers double the distance between the pixels that they see so often before they begin anew; more sees further
            at the same cost and leaves fine texture to fewer layers.
        patch: height and width of the patches that the convolutions go over; larger is cheaper with its square, and leaves more
            to the network within a patch. It divides height and width of the image.
        inner: hidden units of the network that goes over the elements of a patch, or the channels of a pixel.
        components: mixed in the distribution of one element: discretised logistics of levels, Gaussians of real data; more fit
            odder shapes. 0 takes a categorical, a single Gaussian.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Count = 64,
        depth: Count = 8,
        kernel: Count = 3,
        dilate: Natural = 1,
        patch: Count = 1,
        inner: Count = 128,
        components: Natural = 0,
    ) -> None:
        if len(spec.shape) not in (2, 3):
            raise Unsupported(f"a PixelCNN reads rows of pixels; got data of shape {spec.shape}. Use autoregressive/made.")
        if kernel % 2 == 0 or kernel < 3:
            raise BadInput(f"kernel must be odd and at least 3, to have a middle and sides; got {kernel}.")
        channels, height, across = (1, *spec.shape)[-3:]
        head = mixture_for(spec, components, fine=True)
        super().__init__(spec, head=head, held=4 * spec.dims * (head.outputs + inner) + 8 * width * height * across // patch**2)
        self.net = GatedDecoder(
            (channels, height, across), patch=patch, inputs=head.inputs, outputs=head.outputs, inner=inner,
            width=width, depth=depth, kernel=kernel, dilate=dilate, cond=spec.cond.size,
        )  # fmt: skip

    @property
    def orders(self) -> Tensor:
        return self.net.within.order.reshape(1, -1)

    def numbers(self, seen: Tensor, order: Tensor, features: Tensor | None, draws: Draws | None = None) -> Tensor:
        out: Tensor = self.net(seen, features)
        return out

    def walk(self, seen: Tensor, k: int, features: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        return self.net.walk(seen, features)

    def start(self, marginal: Tensor) -> None:
        self.net.within.bias.copy_(marginal)


PRESETS = {
    "mnist": {
        "width": 64, "depth": 8, "kernel": 3, "dilate": 1, "patch": 2, "inner": 128,
        "recipe": {"lr": 3e-3, "batch": 64, "minutes": 10.0, "precision": "bfloat16", "ema": 0.995},
    },
}  # fmt: skip
RECIPE = {"lr": 2e-3, "batch": 64, "steps": 2000}
