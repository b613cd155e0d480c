(* Finite sums over a list of responses.  A list stands for a finite set Y; nothing below needs its entries to differ. *)
Require Import Reals Lra List.
Import ListNotations.
Open Scope R_scope.

Section Sums.
Variable A : Type.

Fixpoint sum (f : A -> R) (l : list A) : R :=
  match l with [] => 0 | y :: t => f y + sum f t end.

Lemma sum_ext f g l : (forall y, In y l -> f y = g y) -> sum f l = sum g l.
Proof. induction l as [|y t IH]; simpl; intros H; [lra|]. rewrite (H y), IH; auto. Qed.

Lemma sum_plus f g l : sum (fun y => f y + g y) l = sum f l + sum g l.
Proof. induction l as [|y t IH]; simpl; lra. Qed.

Lemma sum_mult c f l : sum (fun y => c * f y) l = c * sum f l.
Proof. induction l as [|y t IH]; simpl; [lra|]. rewrite IH; lra. Qed.

Lemma sum_nonneg f l : (forall y, In y l -> 0 <= f y) -> 0 <= sum f l.
Proof. induction l as [|y t IH]; simpl; intros H; [lra|]. apply Rplus_le_le_0_compat; auto. Qed.

(* Nonnegative numbers that sum to 0 are all 0. *)
Lemma sum_zero f l : (forall y, In y l -> 0 <= f y) -> sum f l = 0 -> forall y, In y l -> f y = 0.
Proof.
  induction l as [|y t IH]; simpl; intros H E z Hz; [tauto|].
  assert (0 <= f y) by auto. assert (0 <= sum f t) by (apply sum_nonneg; auto).
  destruct Hz as [<-|Hz]; [lra|]. apply IH; auto; lra.
Qed.

(* A summand is at most the sum of nonnegative numbers. *)
Lemma sum_bounds f l y : (forall z, In z l -> 0 <= f z) -> In y l -> f y <= sum f l.
Proof.
  induction l as [|x t IH]; simpl; intros H Hy; [tauto|].
  assert (0 <= f x) by auto. assert (0 <= sum f t) by (apply sum_nonneg; auto).
  destruct Hy as [<-|Hy]; [lra|]. assert (f y <= sum f t) by auto. lra.
Qed.

(* With two entries or more, all positive, a summand is less than the sum. *)
Lemma sum_strict f l y : (2 <= length l)%nat -> (forall z, In z l -> 0 < f z) -> In y l -> f y < sum f l.
Proof.
  destruct l as [|a [|b t]]; simpl; intros L H Hy; [tauto|exfalso; apply (Nat.lt_irrefl 1); exact L|].
  assert (0 < f a) by auto. assert (0 < f b) by auto.
  assert (P : forall z, In z t -> 0 <= f z) by (intros; left; auto).
  assert (0 <= sum f t) by now apply sum_nonneg.
  destruct Hy as [<-|[<-|Hy]]; [lra|lra|]. assert (f y <= sum f t) by (apply sum_bounds; auto). lra.
Qed.

Lemma sum_positive f l : l <> [] -> (forall y, In y l -> 0 < f y) -> 0 < sum f l.
Proof.
  destruct l as [|y t]; simpl; intros N H; [tauto|].
  assert (0 < f y) by auto. assert (0 <= sum f t) by (apply sum_nonneg; intros; left; auto). lra.
Qed.

(* A policy on Y: nonnegative, and it sums to 1. *)
Definition policy (Y : list A) (p : A -> R) := (forall y, In y Y -> 0 <= p y) /\ sum p Y = 1.

End Sums.

Arguments sum {A} f l.
Arguments policy {A} Y p.
